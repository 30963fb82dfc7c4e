"""Runs one cell: trains a detector along the stream, evaluates every class seen, records R and the cost."""

import math
import time
import traceback
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from avalanche.core import BaseSGDPlugin
from avalanche.evaluation.metric_results import MetricValue

from bench import cost, data, results
from bench.benchmark import benchmark, mixed
from bench.cell import PER_STEP, SCHEMA
from bench.errors import BadInput
from bench.evaluation import Evaluation
from bench.evaluation.quality import Quality
from bench.request import Cell
from bench.results import segments, stored
from bench.runner import checkpoint, energy, sentry
from bench.runner.assembly import build
from bench.runner.environment import environment, make_deterministic, seed_everything, seed_for
from bench.runner.pace import Pace

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
        self.hash = stored.run_of(cell.spec)
        self.device = cell.request.device
        self.started = datetime.now(UTC).isoformat(timespec="seconds")
        request = cell.request
        arrays, _ = data.load(
            cell.stream, request.data, cell.spec["image_size"], request.cache, plugins=request.plugins
        )
        self.benchmark, self.gate = benchmark(
            cell.stream, arrays, labels="labels" in cell.capabilities, ahead="reads_ahead" in cell.capabilities
        )
        decoded = Path(arrays.images.filename).parent
        with sentry.closed(root, decoded):
            self.strategy = build(cell)
        self.closed = [root, decoded, *([request.data] if request.data else [])]
        self.evaluation = Evaluation(cell.stream, arrays, self.device, save_maps=request.save_maps)
        self.loggers = loggers
        self.strategy.plugins += [self.evaluation.watch, Epochs(emit)]
        self.quality = Quality(cell.stream, arrays, self.device)
        self.gpu, self.extra = cost.Gpu(self.device), cost.Stopwatch(self.device)
        self.processor = energy.Rapl()
        for plugin in self.strategy.methods:
            self.extra.watch(plugin)
        self.ledger = {name: [] for name in PER_STEP}
        self.notes: dict[str, list[float]] = {}
        self.latency: dict = {}
        self.pace = Pace()

    @property
    def path(self) -> Path:
        return results.path_of(self.root, self.cell.spec)

    @property
    def scores(self) -> Path:
        """Where the scores are stored, beside the cell file."""
        return stored.path_of(self.path)

    def resume(self) -> int:
        """Return the step to start with, everything before it restored: detector, plugins, record and scores."""
        held = segments.held(self.scores, self.hash, self.cell.request.save_maps)
        step, saved = checkpoint.load(self.path.with_suffix(".ckpt"), self.cell.key, self.strategy, at_most=held)
        if saved:
            self.ledger = saved["cost"]
            self.notes = saved.get("notes", {})
            for earlier, row in segments.rows(self.scores, step):
                self.evaluation.rows.put(earlier, row)
        segments.cut(self.scores, step)
        return step

    def step(self, t: int) -> None:
        """Train on step `t`, evaluate all classes seen where the cell is evaluated then, save."""
        experiences = self.benchmark.train_stream
        ahead = "reads_ahead" in self.cell.capabilities
        self.evaluation.row = t
        seed_everything(seed_for(self.cell.spec["seed"], "train", t))
        self.gate.open_steps = range(len(experiences)) if ahead else range(t, t + 1)
        spent = time.process_time()
        with sentry.closed(*self.closed), (training := cost.Stopwatch(self.device)).running():
            self.strategy.train(experiences[t], eval_streams=[])
        spent = time.process_time() - spent
        self.gate.open_steps = range(0)
        self.gpu.sample()
        with (testing := cost.Stopwatch(self.device)).running():
            evaluated = self._evaluate(t) if self.cell.evaluated_after(t) else self._pass(t)
        self._note(training.lap(), spent, testing.lap(), evaluated)
        self._save(t)

    def _evaluate(self, t: int) -> int:
        """Show the test images of all classes seen, mixed unless the method is told the class; returns how many."""
        seen = [c for c, step in enumerate(self.cell.stream.learned_at) if step <= t]
        told = "task_oracle" in self.cell.capabilities
        if told:
            shown, rows = [self.benchmark.test_stream[c] for c in seen], self.evaluation.truth.rows
            rows = np.concatenate([rows[c] for c in seen])
        else:
            seed = seed_for(self.cell.spec["seed"], "test", t)
            experience, rows = mixed(self.evaluation.arrays, seen, self.gate, seed)
            shown = [experience]
        with sentry.closed(*self.closed):
            self.evaluation.calibrate(self.strategy)
            self.gate.testing = True
            self.strategy.eval(shown)
            self.gate.testing = False
            self.evaluation.take(rows)
            # With the task given at test time only the class evaluated last is still in place.
            self.evaluation.canary(self.strategy, seen[-1:] if told else seen)
        arrays = self.evaluation.enter()
        segments.write(self.scores, self.hash, t, arrays, self.evaluation.rows.row(t))
        return len(rows)

    def _pass(self, t: int) -> int:
        segments.write(self.scores, self.hash, t, {}, {})
        return 0

    def _note(self, train_s: float, train_cpu_s: float, eval_s: float, eval_images: int) -> None:
        carried = sum(cost.carried_bytes(plugin.state_dict()) for plugin in self.strategy.methods)
        step = (train_s, train_cpu_s, eval_s, self.extra.lap(), self.strategy.train_images, eval_images, carried)
        for name, value in zip(PER_STEP, step, strict=True):
            self.ledger[name].append(value)
        self._note_memory(len(self.ledger["train_s"]) - 1)

    def _note_memory(self, t: int) -> None:
        """What each method says of itself after step `t`, and how true its memory is."""
        for plugin in self.strategy.methods:
            for name, value in (plugin.report() | self.quality.measure(plugin, t)).items():
                earlier = self.notes.setdefault(name, [])
                self.notes[name] = earlier + [math.nan] * (t - len(earlier)) + [value]

    def _save(self, t: int) -> None:
        """Tell, and write the checkpoint: the scores are stored already, so it never points beyond them."""
        values = self.evaluation.rows.of_step(t)
        for logger in self.loggers:
            logger.log_metrics([MetricValue(self, name, value, t) for name, value in values.items()])
        evaluated = self.cell.evaluated_after(t)
        mean = np.nanmean(self.evaluation.rows.matrices["image_auroc"][t]) if evaluated else math.nan
        self.emit({"step": t + 1, "image_auroc": float(mean)})
        saved = {"cost": self.ledger, "notes": self.notes}
        checkpoint.save(self.path.with_suffix(".ckpt"), self.cell.key, t, self.strategy, saved)
        if self.cell.request.keep:
            checkpoint.keep(self.path.with_suffix(".ckpt"), results.kept(self.path, t))
        self.pace.write(lambda: results.write(self.root, self.record("partial")))

    def finish(self) -> None:
        """Time single predictions, write the finished cell, drop the checkpoint."""
        self.strategy.model.eval()
        self.latency = cost.latency(self.strategy.model.predict, self.cell.spec["image_size"], self.device)
        segments.join(self.scores, self.hash, len(self.cell.stream.steps))
        results.write(self.root, self.record("ok"))
        self.path.with_suffix(".ckpt").unlink(missing_ok=True)
        segments.drop(self.scores)

    def record(self, status: str, reason: str = "") -> dict:
        """The cell file as it stands now."""
        return {
            "schema": SCHEMA,
            "key": self.cell.key,
            "spec": self.cell.spec,
            "capabilities": list(self.cell.capabilities),
            **({"tuned_on": list(self.cell.tuned_on)} if self.cell.tuned_on else {}),
            "status": status,
            "reason": reason,
            **self.evaluation.rows.record(),
            "stored": {"maps": self.cell.request.save_maps, "bytes": _size(self.scores)},
            "cost": self.ledger
            | {"peak_rss_bytes": cost.peak_rss_bytes(), "ms_per_image": self.latency, "gpu": self.gpu.report()}
            | {"cpu_energy_j": self.processor.joules()}
            | cost.size_of(self.strategy.model),
            **({"notes": self.notes} if self.notes else {}),
            "environment": environment(self.device)
            | {"started": self.started, "finished": datetime.now(UTC).isoformat(timespec="seconds")},
        }


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def run(
    cell: Cell,
    root: Path,
    emit: Emit = lambda event: None,
    *,
    threads: int = 1,
    loggers=(),
    at_most: int | None = None,
) -> None:
    """Run one cell to its end, or to its failure, which is a result too; or by `at_most` steps from where it stands.

    Raises:
        BadInput: if the results cannot be saved.
    """
    make_deterministic(threads)
    start = time.perf_counter()
    under_way = None
    try:
        under_way = Run(cell, root, emit, loggers)
        first = under_way.resume()
        steps = len(cell.stream.steps)
        emit({"start": first, "steps": steps})
        last = steps if at_most is None else min(steps, first + at_most)
        for t in range(first, last):
            under_way.step(t)
        if last < steps:
            return
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
    from bench.runner.loggers import make

    warnings.simplefilter("ignore")  # third-party chatter; what matters becomes an event or a traceback
    try:
        run(cell, root, connection.send, threads=threads, loggers=make(logger_names, cell, root))
    except BadInput as error:
        connection.send({"done": "bad input", "reason": str(error)})
