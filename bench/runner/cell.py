"""A cell from its first step to its record. Per step: give, take, score, save."""

import math
import time
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from avalanche.evaluation.metric_results import MetricValue

from bench import data, results
from bench.data import rows_of
from bench.errors import BadInput
from bench.evaluation import Evaluation
from bench.evaluation.replay_fidelity import Quality
from bench.results import segments, stored
from bench.runner import checkpoint
from bench.runner.checkpoint import Pace
from bench.runner.cost import CostLog, Neighbours
from bench.runner.environment import environment
from bench.runner.feature_cache import FOLDER, FeatureCache
from bench.schema.cell import SCHEMA
from bench.schema.request import Cell
from bench.training.seeding import make_deterministic
from bench.wall import nursery as nurseries
from bench.wall.nursery import Nursery
from bench.wall.parent import Given, MethodError, Used, confined, readable, task_of, unconfined
from bench.wall.state import without_entries

Emit = Callable[[dict], None]


def run_cell(
    cell: Cell,
    root: Path,
    emit: Emit = lambda event: None,
    *,
    threads: int = 1,
    loggers=(),
    at_most: int | None = None,
    nursery: Nursery | None = None,
) -> None:
    """Run one cell to its end, or by `at_most` steps from where it stands; a crash is written down as its result.

    Its steps are forked by `nursery`, or by one of its own.

    Raises:
        BadInput: if the results cannot be saved.
    """
    start, under_way = time.perf_counter(), None
    make_deterministic(threads)
    try:
        own = nursery is None and not cell.request.no_wall
        with nurseries.opened() if own else nullcontext(nursery) as forks:
            under_way = CellRun(cell, root, emit, forks, threads, loggers)
            first, steps = under_way.resume(), len(cell.stream.steps)
            emit({"start": first, "steps": steps})
            last = steps if at_most is None else min(steps, first + at_most)
            for t in range(first, last):
                under_way.step(t)
            if last == steps:
                under_way.finish()
                emit({"done": "ok", "seconds": time.perf_counter() - start})
    except BadInput:
        raise
    except Exception as error:  # a crash is a row of the table, with its traceback
        reason = str(error) if isinstance(error, MethodError) else traceback.format_exc()
        if under_way and under_way.refused and not isinstance(error, BreachError):
            reason = f"{reason.rstrip()}\n{BreachError(under_way.refused)}"
        record = under_way.record("failed", reason) if under_way else None
        results.write_cell(root, record or results.blank(cell.spec, cell.capabilities, "failed", reason))
        emit({"done": "failed", "reason": reason})


class BreachError(MethodError):
    """A method's process tried what is closed to it, whatever it made of the refusal."""

    def __init__(self, refused: list[str]):
        super().__init__(
            f"the method was refused what docs/add-a-method.md closes to it: it tried to {'; to '.join(refused)}."
        )


class CellRun:
    """Holds what a method must not: the data with its truth, the results, the clock."""

    def __init__(self, cell: Cell, root: Path, emit: Emit, nursery: Nursery, threads: int, loggers=()):
        self.cell, self.root, self.emit, self.nursery, self.threads = cell, root, emit, nursery, threads
        self.path = results.cell_path(root, cell.spec)
        self.scores, self.checkpoint = stored.scores_path(self.path), self.path.with_suffix(".ckpt")
        self.hash, self.loggers, self.pace = stored.run_of(cell.spec), loggers, Pace()
        self.started = datetime.now(UTC).isoformat(timespec="seconds")
        asked = cell.request
        size, share = cell.spec["image_size"], cell.spec.get("holdout", 0.0)
        self.arrays, _ = data.load_arrays(
            cell.stream, asked.data, size, asked.cache, plugins=asked.plugins, holdout=share
        )
        self.evaluation = Evaluation(cell.stream, self.arrays, asked.device, save_maps=asked.save_maps)
        self.features = FeatureCache(asked.cache / FOLDER, asked.feature_cache * 1e9, cell.backbone, asked.device)
        self.log = CostLog(
            Quality(cell.stream, self.arrays, asked.device), asked.device, cached=bool(asked.feature_cache)
        )
        self.carried: list[bytes] | None = None  # what the last step handed over: the detector's, then each plugin's
        self.fresh: dict = {}  # the detector as it is built, before the method's code runs: its size
        self.digests: list[str] = []  # SHA-256 of the stored scores of each step
        self.closed: list[str] = []
        self.refused: list[str] = []

    def resume(self) -> int:
        """Return the step to start with, everything before it restored: state, costs and scores."""
        saved, step = checkpoint.load_checkpoint(self.checkpoint, self.cell.resume_key), 0
        held = segments.steps_held(self.scores, saved["scores"], self.cell.request.save_maps) if saved else 0
        if saved and held == len(saved["scores"]):
            step, self.carried, self.digests = held, saved["carried"], saved["scores"]
            self.log.restore(saved["log"])
            for earlier, row in segments.rows(self.scores, step):
                self.evaluation.rows.put(earlier, row)
        elif self.checkpoint.exists():
            what = f"scores of step {held + 1} are" if saved else "checkpoint is"
            self._tell("note", text=f"its {what} lost, damaged or of other code: it starts at the first step")
        segments.cut(self.scores, step)
        return step

    def step(self, t: int) -> None:
        """Train on step `t`, show the test images of the classes that are tested then, save."""
        cell, asked = self.cell, self.cell.request
        wall, told = unconfined if asked.no_wall else confined, "task_oracle" in cell.capabilities
        task, at_hand = task_of(cell, t, self.threads), {"weights": readable(cell), "tell": self._tell}
        features = self.features.answer if asked.feature_cache else None
        used, again, neighbours = Used(refused=self.refused), Used(refused=self.refused), Neighbours()
        with wall(self.nursery, task, self.handed_on(), used, features=features, **at_hand) as method:
            # give: the step's images; the state that the last step handed over is there already
            self.closed = used.closed
            about, self.carried = method.train(self.given(t))
            # take: the new state, then what it says of the test images
            start, spent = time.perf_counter(), method.cpu_seconds()
            line = {"train_s": start - method.began[0], "train_cpu_s": spent - method.began[1], "epochs": method.epochs}
            said = self.evaluation.show(method.look, t, cell.tested_after(t), told=told)
            line |= {"eval_cpu_s": method.cpu_seconds() - spent}
            note = method.tell()
        with wall(self.nursery, task, self.carried, again, **at_hand) as fresh:
            self.evaluation.show_again(fresh.look, said, told=told)
            if t == len(cell.stream.steps) - 1:
                self.log.latency = self.evaluation.time(fresh.look, said, told=told)
        if self.refused:
            raise BreachError(self.refused)
        if line["epochs"] > self.fresh["epochs"]:
            raise MethodError(
                f"the method trained for {line['epochs']} epochs where its row says {self.fresh['epochs']}: "
                "leave `strategy.train_epochs` as it is, epochs are set by an option of the detector."
            )
        # score
        arrays = self.evaluation.enter(said)
        line |= {"eval_s": time.perf_counter() - start, "eval_images": len(said.tests)}
        line |= {"others_share": neighbours.share(used.cpu_s + again.cpu_s)}
        self.log.enter(line | about, note, self.features.lap(), used.peak_rss_bytes, self.fresh, self.carried)
        # save: the scores first, so that the checkpoint never points beyond them
        self.digests.append(segments.write_segment(self.scores, t, arrays, self.evaluation.rows.row(t)))
        self._announce(t)
        checkpoint.save(self.checkpoint, cell.resume_key, self.carried, self.log.state(), self.digests)
        if asked.keep:
            checkpoint.keep(self.checkpoint, results.kept(self.path, t))
        self.pace.write(lambda: results.write_cell(self.root, self.record("partial")))

    def handed_on(self) -> list[bytes] | None:
        """What the last step left, without the detector's bank: it fits a new one, and no method keeps things in it."""
        if self.carried is None or "reads_ahead" in self.cell.capabilities:  # who trains once goes on with that bank
            return self.carried
        return [without_entries(self.carried[0], self.log.grown), *self.carried[1:]]

    def given(self, t: int) -> Given:
        """The training images of step `t`, or of all for a method that reads ahead; classes if it uses labels."""
        labels, ahead = ("labels" in self.cell.capabilities), ("reads_ahead" in self.cell.capabilities)
        given = []
        for step in range(len(self.cell.stream.steps)) if ahead else [t]:
            columns = [c for c, learned in enumerate(self.cell.stream.learned_at) if learned == step]
            rows = rows_of(self.arrays, columns, train=True)
            given.append((np.array(self.arrays.images[rows]), self.arrays.categories[rows] if labels else None))
        return given

    def _tell(self, kind: str, **what) -> None:
        if kind == "built":
            self.fresh = what
        else:
            self.emit(what if kind == "epoch" else {"note": what["text"]})

    def _announce(self, t: int) -> None:
        for logger in self.loggers:
            values = self.evaluation.rows.of_step(t)
            logger.log_metrics([MetricValue(self, name, value, t) for name, value in values.items()])
        row = self.evaluation.rows.matrices["image_auroc"][t]
        seen = [value for value, at in zip(row, self.cell.stream.learned_at, strict=True) if at <= t]
        self.emit({"step": t + 1, "image_auroc": float(np.mean([v for v in seen if not np.isnan(v)] or math.nan))})

    def finish(self) -> None:
        """Write the finished cell, drop the checkpoint."""
        segments.join(self.scores, self.hash, self.digests)
        results.write_cell(self.root, self.record("ok"))
        self.checkpoint.unlink(missing_ok=True)
        segments.drop(self.scores)

    def record(self, status: str, reason: str = "") -> dict:
        """The cell file as it stands now."""
        cell, kept = self.cell, {"maps": self.cell.request.save_maps, "bytes": 0}
        if self.scores.is_file():
            kept |= {"bytes": self.scores.stat().st_size, "sha256": stored.checksum(self.scores)}
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return {
            "schema": SCHEMA,
            "key": cell.key,
            "spec": cell.spec,
            "capabilities": list(cell.capabilities),
            **({"tuned_on": list(cell.tuned_on)} if cell.tuned_on else {}),
            "code": cell.code,
            "status": status,
            "reason": reason,
            **self.evaluation.rows.record(),
            "stored": kept,
            **({"data": list(self.arrays.odd)} if self.arrays.odd else {}),
            **self.log.record(),
            "wall": {"confined": bool(self.closed), "closed": self.closed, "refused": self.refused},
            "environment": environment(cell.request.device) | {"started": self.started, "finished": now},
        }
