"""A cell in the making: a detector trained along the stream, tested on every class seen, R and the cost recorded."""

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
            cell.stream,
            request.data,
            cell.spec["image_size"],
            request.cache,
            plugins=request.plugins,
            holdout=cell.spec.get("holdout", 0),
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
        step, saved = checkpoint.load(self.path.with_suffix(".ckpt"), self.cell.key, self.strategy, at_most=held)
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
            evaluated = self._evaluate(t)
        self.ledger.enter(training.lap(), spent, testing.lap(), evaluated, self.features.lap())
        self._save(t)

    def _evaluate(self, t: int) -> int:
        """Show the test images of the classes to be tested, mixed unless the class is told; returns how many."""
        seen = self.cell.tested_after(t)
        told = "task_oracle" in self.cell.capabilities
        if told:
            shown, rows = [self.benchmark.test_stream[c] for c in seen], self.evaluation.truth.rows
            rows = np.concatenate([rows[c] for c in seen])
        else:
            seed = seed_for(self.cell.spec["seed"], "test", t)
            experience, rows = mixed(self.evaluation.arrays, seen, self.gate, seed)
            shown = [experience]
        with sentry.closed(*self.closed):
            self.evaluation.calibrate(self.strategy, [c for c in seen if self.cell.stream.learned_at[c] <= t])
            self.gate.testing = True
            self.strategy.eval(shown)
            self.gate.testing = False
            self.evaluation.take(rows)
            # With the task given at test time only the class evaluated last is still in place.
            self.evaluation.canary(self.strategy, seen[-1:] if told else seen)
        arrays = self.evaluation.enter()
        segments.write(self.scores, self.hash, t, arrays, self.evaluation.rows.row(t))
        return len(rows)

    def _save(self, t: int) -> None:
        """Tell, and write the checkpoint: the scores are stored already, so it never points beyond them."""
        values = self.evaluation.rows.of_step(t)
        for logger in self.loggers:
            logger.log_metrics([MetricValue(self, name, value, t) for name, value in values.items()])
        mean = np.nanmean(self.evaluation.rows.matrices["image_auroc"][t])
        self.emit({"step": t + 1, "image_auroc": float(mean)})
        checkpoint.save(self.path.with_suffix(".ckpt"), self.cell.key, t, self.strategy, self.ledger.state())
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
            "status": status,
            "reason": reason,
            **self.evaluation.rows.record(),
            "stored": _about(self.scores, self.cell.request.save_maps),
            **self.ledger.record(),
            "environment": environment(self.device)
            | {"started": self.started, "finished": datetime.now(UTC).isoformat(timespec="seconds")},
        }


def _about(path: Path, maps: bool) -> dict:
    """What is known of the scores beside the cell; their checksum once they are one file."""
    if not path.is_file():
        return {"maps": maps, "bytes": 0}
    return {"maps": maps, "bytes": path.stat().st_size, "sha256": stored.checksum(path)}
