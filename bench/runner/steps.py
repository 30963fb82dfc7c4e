"""A cell in the making: a detector trained along the stream, tested on every class seen, R and the cost recorded."""

import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from avalanche.core import BaseSGDPlugin
from avalanche.evaluation.metric_results import MetricValue

from bench import data, results
from bench.evaluation import Evaluation
from bench.evaluation.replay_fidelity import Quality
from bench.results import segments, stored
from bench.runner import checkpoint, cost, sentry
from bench.runner.assembly import build
from bench.runner.cost_log import Ledger
from bench.runner.environment import environment, seed_everything, seed_for
from bench.runner.feature_cache import FOLDER, FeatureCache
from bench.runner.throttle import Pace
from bench.schema.cell import SCHEMA
from bench.schema.request import Cell
from bench.training.auto_batch import AutoBatch
from bench.training.experiences import benchmark, mixed

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
        kept = request.cache / FOLDER
        self.features = FeatureCache(kept, request.feature_cache * 1e9)
        with sentry.closed(root, decoded, kept):
            self.strategy = build(cell, self.features.recall)
        if cell.spec.get("auto_batch"):
            self.strategy.auto_batch = AutoBatch(lambda text: emit({"note": text}))
        self.closed = [root, decoded, kept, *([request.data] if request.data else [])]
        self.evaluation = Evaluation(cell.stream, arrays, self.device, save_maps=request.save_maps)
        self.loggers = loggers
        self.strategy.plugins += [self.evaluation.watch, Epochs(emit)]
        quality = Quality(cell.stream, arrays, self.device)
        self.ledger = Ledger(self.strategy, quality, self.device, cached=bool(request.feature_cache))
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
        step, saved = checkpoint.load(self.path.with_suffix(".ckpt"), self.cell.resume_key, self.strategy, at_most=held)
        if saved:
            self.ledger.restore(saved)
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
        self.ledger.gpu.sample()
        with (testing := cost.Stopwatch(self.device)).running():
            evaluated = self._evaluate(t) if self.cell.evaluated_after(t) else self._pass(t)
        self.ledger.enter(training.lap(), spent, testing.lap(), evaluated, self.features.lap())
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

    def _save(self, t: int) -> None:
        """Tell, and write the checkpoint: the scores are stored already, so it never points beyond them."""
        values = self.evaluation.rows.of_step(t)
        for logger in self.loggers:
            logger.log_metrics([MetricValue(self, name, value, t) for name, value in values.items()])
        evaluated = self.cell.evaluated_after(t)
        mean = np.nanmean(self.evaluation.rows.matrices["image_auroc"][t]) if evaluated else math.nan
        self.emit({"step": t + 1, "image_auroc": float(mean)})
        checkpoint.save(self.path.with_suffix(".ckpt"), self.cell.resume_key, t, self.strategy, self.ledger.state())
        if self.cell.request.keep:
            checkpoint.keep(self.path.with_suffix(".ckpt"), results.kept(self.path, t))
        self.pace.write(lambda: results.write(self.root, self.record("partial")))

    def finish(self) -> None:
        """Time single predictions, write the finished cell, drop the checkpoint."""
        with self.features.off():
            self.ledger.time_predictions(self.cell.spec["image_size"])
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
            "code": self.cell.code,
            "status": status,
            "reason": reason,
            **self.evaluation.rows.record(),
            "stored": {"maps": self.cell.request.save_maps, "bytes": _size(self.scores)},
            **self.ledger.record(),
            "environment": environment(self.device)
            | {"started": self.started, "finished": datetime.now(UTC).isoformat(timespec="seconds")},
        }


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
