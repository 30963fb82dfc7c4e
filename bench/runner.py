"""Runs one cell: trains a detector along the stream, evaluates every class seen, records R and the cost."""

import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import torch
from avalanche.core import BaseSGDPlugin
from avalanche.logging import BaseLogger
from avalanche.training.plugins import EvaluationPlugin

from bench import checkpoint, config, cost, data, registry, results
from bench.api import Detector, Setup
from bench.benchmark import benchmark
from bench.cell import PER_STEP, SCHEMA
from bench.environment import environment, make_deterministic, seed_everything, seed_for, untouched_draws
from bench.errors import BadInput
from bench.evaluation import Evaluation
from bench.request import Cell

Emit = Callable[[dict], None]


class Epochs(BaseSGDPlugin, supports_distributed=False):
    """Tells whoever watches how far the training is."""

    def __init__(self, emit: Emit):
        super().__init__()
        self.emit = emit

    def before_training_exp(self, strategy, **_):
        self.epoch = 0

    def after_training_epoch(self, strategy, **_):
        self.epoch += 1
        self.emit({"epoch": self.epoch, "epochs": strategy.train_epochs})


class Run:
    """A cell in the making: the strategy, the evaluation, and the record that grows with every step."""

    def __init__(self, cell: Cell, root: Path, emit: Emit, loggers=()):
        self.cell, self.root, self.emit = cell, root, emit
        self.device = cell.request.device
        self.started = datetime.now(UTC).isoformat(timespec="seconds")
        request = cell.request
        arrays, _ = data.load(
            cell.stream, request.data, cell.spec["image_size"], request.cache, plugins=request.plugins
        )
        self.benchmark, self.gate = benchmark(cell.stream, arrays, labels="labels" in cell.capabilities)
        self.strategy = build(cell)
        self.evaluation = Evaluation(cell.stream, arrays, self.device)
        self._attach(loggers)
        self.gpu, self.extra = cost.Gpu(self.device), cost.Stopwatch(self.device)
        for plugin in self.strategy.methods:
            self.extra.watch(plugin)
        self.ledger = {name: [] for name in PER_STEP}
        self.latency: dict = {}

    def _attach(self, loggers) -> None:
        strategy = self.strategy
        position = strategy.plugins.index(strategy.evaluator)
        strategy.evaluator = EvaluationPlugin(self.evaluation, loggers=list(loggers) or [BaseLogger()])
        strategy.plugins[position : position + 1] = [strategy.evaluator, Epochs(self.emit)]

    @property
    def path(self) -> Path:
        return results.path_of(self.root, self.cell.spec)

    def resume(self) -> int:
        """Return the step to start with, everything before it restored."""
        step, saved = checkpoint.load(self.path.with_suffix(".ckpt"), self.cell.key, self.strategy)
        if saved:
            self.ledger = saved["cost"]
            self.evaluation.restore(saved["evaluation"])
        return step

    def step(self, t: int) -> None:
        """Train on step `t`, evaluate all classes seen, save."""
        experiences = self.benchmark.train_stream
        ahead = "reads_ahead" in self.cell.capabilities
        self.evaluation.row = t
        seed_everything(seed_for(self.cell.spec["seed"], "train", t))
        self.gate.open_steps = range(len(experiences)) if ahead else range(t, t + 1)
        with (training := cost.Stopwatch(self.device)).running():
            self.strategy.train(experiences[t], eval_streams=[])
        self.gate.open_steps = range(0)
        self.gpu.sample()
        with (testing := cost.Stopwatch(self.device)).running():
            evaluated = self._evaluate(t)
        self._note(training.lap(), testing.lap(), evaluated)
        self._save(t)

    def _evaluate(self, t: int) -> int:
        seen = [c for c, step in enumerate(self.cell.stream.learned_at) if step <= t]
        self.evaluation.calibrate(self.strategy)
        self.gate.testing = True
        self.strategy.eval([self.benchmark.test_stream[c] for c in seen])
        self.gate.testing = False
        # With the task given at test time only the class evaluated last is still in place.
        self.evaluation.canary(self.strategy, seen[-1:] if "task_oracle" in self.cell.capabilities else seen)
        return sum(len(self.evaluation.truth.rows[c]) for c in seen)

    def _note(self, train_s: float, eval_s: float, eval_images: int) -> None:
        carried = sum(cost.carried_bytes(plugin.state_dict()) for plugin in self.strategy.methods)
        step = (train_s, eval_s, self.extra.lap(), self.strategy.train_images, eval_images, carried)
        for name, value in zip(PER_STEP, step, strict=True):
            self.ledger[name].append(value)

    def _save(self, t: int) -> None:
        self.emit(
            {"step": t + 1, "image_auroc": float(torch.tensor(self.evaluation.result()["image_auroc"]).nanmean())}
        )
        saved = {"cost": self.ledger, "evaluation": self.evaluation.state()}
        checkpoint.save(self.path.with_suffix(".ckpt"), self.cell.key, t, self.strategy, saved)
        if self.cell.request.keep:
            checkpoint.keep(self.path.with_suffix(".ckpt"), results.kept(self.path, t))
        results.write(self.root, self.record("partial"))

    def finish(self) -> None:
        """Time single predictions, write the finished cell, drop the checkpoint."""
        self.strategy.model.eval()
        self.latency = cost.latency(self.strategy.model.predict, self.cell.spec["image_size"], self.device)
        results.write(self.root, self.record("ok"))
        self.path.with_suffix(".ckpt").unlink(missing_ok=True)

    def record(self, status: str, reason: str = "") -> dict:
        """The cell file as it stands now."""
        routing = self.evaluation.routing
        return {
            "schema": SCHEMA,
            "key": self.cell.key,
            "spec": self.cell.spec,
            "capabilities": list(self.cell.capabilities),
            "status": status,
            "reason": reason,
            "matrices": self.evaluation.matrices,
            "pooled": self.evaluation.pooled,
            "threshold": self.evaluation.threshold,
            "routing_accuracy": None if (routing != routing).all() else routing,
            "cost": self.ledger
            | {"peak_rss_bytes": cost.peak_rss_bytes(), "ms_per_image": self.latency, "gpu": self.gpu.report()}
            | cost.size_of(self.strategy.model),
            "environment": environment(self.device)
            | {"started": self.started, "finished": datetime.now(UTC).isoformat(timespec="seconds")},
        }


def build(cell: Cell):
    """The strategy of a cell: its detector, as it starts, under its method."""
    spec, device = cell.spec, cell.request.device
    (method, method_config), (detector, detector_config) = _part("method", cell), _part("detector", cell)
    setup = Setup(spec["image_size"], spec["seed"], device, cell.backbone)

    def fresh(seed: int) -> Detector:
        with untouched_draws():
            seed_everything(seed_for(seed, "detector"))
            return detector.build(detector_config, setup).to(device)

    built = fresh(spec["seed"])
    seed_everything(seed_for(spec["seed"], "method"))
    return method.build(method_config, replace(setup, detector=built, fresh=fresh))


def _part(kind: str, cell: Cell):
    """The module of a cell's method or detector, and its configuration."""
    name, request = cell.spec[kind], cell.request
    module = registry.find(kind, name, request.plugins).load()
    return module, config.resolve(name, module, cell.spec["size"], request.overrides.get(name, {}))


def run(cell: Cell, root: Path, emit: Emit = lambda event: None, *, threads: int = 1, loggers=()) -> None:
    """Run one cell to its end, or to its failure, which is a result too.

    Raises:
        BadInput: if the results cannot be saved.
    """
    make_deterministic(threads)
    start = time.perf_counter()
    under_way = None
    try:
        under_way = Run(cell, root, emit, loggers)
        first = under_way.resume()
        emit({"start": first, "steps": len(cell.stream.steps)})
        for t in range(first, len(cell.stream.steps)):
            under_way.step(t)
        under_way.finish()
        emit({"done": "ok", "seconds": time.perf_counter() - start})
    except BadInput:
        raise
    except Exception:  # a crash is a row of the table, with its traceback
        reason = traceback.format_exc()
        record = under_way.record("failed", reason) if under_way else None
        results.write(root, record or results.blank(cell.spec, cell.capabilities, "failed", reason))
        emit({"done": "failed", "reason": reason})


def work(cell: Cell, root: Path, connection, threads: int, logger_names: tuple[str, ...]) -> None:
    """The body of a cell's process: run, and send every event to the parent."""
    from bench.loggers import make

    warnings.simplefilter("ignore")  # third-party chatter; what matters becomes an event or a traceback
    try:
        run(cell, root, connection.send, threads=threads, loggers=make(logger_names, cell, root))
    except BadInput as error:
        connection.send({"done": "bad input", "reason": str(error)})
