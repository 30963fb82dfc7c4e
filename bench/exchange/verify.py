"""`bench verify`: is a folder of results what it says? Everything that can be made anew is made anew and compared."""

import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from bench import results
from bench.backends import pool
from bench.errors import BadInput
from bench.exchange.rescore import rescored, truth_of
from bench.metrics.ranking import METRIC_VERSION
from bench.metrics.scoring import Truth
from bench.metrics.thresholds import drift
from bench.render import leaderboard
from bench.render.show import find_cells
from bench.results import stored
from bench.results.age import other_parts
from bench.schema.cell import CLASS_FALSE_ALARM, CLASS_RECALL, CLASS_SHIFT, CLASS_SPREAD, CLASS_THRESHOLD
from bench.schema.cell_json import json_text as written
from bench.schema.record import Record

SCORED = ("matrices", "pooled", "threshold", "routing_accuracy")  # what comes of scores and maps
DATA = ("scenario", "scenario_version", "order", "image_size", "fingerprint")
TOLERANCE = 1e-9  # sums of a few dozen numbers, in another order


@dataclass
class Verified:
    """What `bench verify` found; `open_` counts cells by what could not be verified of them, and why."""

    cells: int = 0
    differences: list[str] = field(default_factory=list)
    open_: Counter = field(default_factory=Counter)
    sampled: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        head = f"{self.cells} cells, {len(self.differences)} differences"
        rerun = [f"run again: {', '.join(self.sampled)}"] if self.sampled else []
        rest = [f"not verified in {count} cells: {what}" for what, count in sorted(self.open_.items())]
        return "\n".join([*self.differences, head, *rerun, *rest])


def verify(options) -> Verified:
    """Compare the cells that the parsed command line names, or all of `options.results` and its tables.

    Raises:
        BadInput: if no cell has the name.
    """
    found, known = Verified(), {}
    wanted = set(find_cells(options.cell, options.results)) if options.cell else None
    finished = []
    for path, cell in results.scan(options.results):
        if wanted is not None and path not in wanted:
            continue
        found.cells += 1
        if isinstance(cell, BadInput):
            found.differences.append(str(cell))
            continue
        found.differences += [f"{path}: {line}" for line in _within(path, cell)]
        if cell["status"] == "ok":
            finished.append((path, cell))
            for check in (_code, _scores):
                try:
                    found.differences += [f"{path}: {line}" for line in check(path, cell, options, known)]
                except _Open as reason:
                    found.open_[str(reason)] += 1
    if wanted is None:
        found.differences += leaderboard.stale(options.results)
    for path, cell in random.sample(finished, min(options.sample, len(finished))):
        found.sampled.append(str(path.relative_to(options.results).with_suffix("")))
        found.differences += [f"{path}: {line}" for line in _rerun(path, cell, options)]
    return found


class _Open(Exception):  # noqa: N818 - nothing is wrong
    """Why something cannot be verified, worded to follow `not verified in N cells:`."""


def _within(path: Path, cell: Record) -> Iterator[str]:
    """What a cell contradicts in itself."""
    if path.read_text(encoding="utf-8") != written(cell):
        yield "it is not written as the bench writes it, so it was edited by hand"
    if cell["status"] == "ok" and cell.steps_done != len(cell.spec.steps):
        yield f"it is finished, and its cost is of {cell.steps_done} of {len(cell.spec.steps)} steps"
    learned = cell.learned_at
    tested = [cell.spec.tested_after(step) for step in range(len(cell.spec.steps))]
    for metric, matrix in cell["matrices"].items():
        for step, row in enumerate(matrix):
            for column in np.flatnonzero(~np.isnan(np.array(row, float))):
                if column not in tested[step]:
                    yield f"{metric} has a number of {cell.spec.classes[column]!r}, not tested after step {step + 1}"
    for part, made in _derived(cell).items():
        yield from _same(cell[part], made, part)
    for step, pooled in enumerate(cell["pooled"].get("image_auroc", ())):
        if (learned <= step).sum() == 1:  # one class is the whole line
            alone = cell["matrices"]["image_auroc"][step][int(np.argmin(learned))]
            yield from _same({"image_auroc": [pooled]}, {"image_auroc": [alone]}, f"after step {step + 1} pooled")


def _derived(cell: Record) -> dict[str, dict]:
    """What other numbers of the cell give, by part: F1 of precision and recall, and how far thresholds have moved."""
    threshold, matrices = cell["threshold"], cell["matrices"]
    f1 = {}
    for prefix in ("", "routed_"):  # over all classes, and of routed images
        if all(len(threshold.get(prefix + name, ())) for name in ("f1", "precision", "recall")):
            precision, recall = (np.array(threshold[prefix + name], float) for name in ("precision", "recall"))
            both = precision + recall
            made = 2 * precision * recall / np.where(both == 0, 1, both)
            given = np.array(threshold[f"{prefix}f1"], float)
            f1[f"{prefix}f1"] = np.where(np.isnan(made), given, made)  # nothing rejected: F1 is 0, precision undefined
    if not all(name in matrices for name in (CLASS_SHIFT, CLASS_THRESHOLD, CLASS_SPREAD)):
        return {"threshold": f1}
    learned, columns = cell.learned_at, range(len(cell.learned_at))
    value, spread = (np.array(matrices[name], float) for name in (CLASS_THRESHOLD, CLASS_SPREAD))
    moved = [[drift(row[c], value[learned[c], c], spread[learned[c], c]) for c in columns] for row in value]
    told = np.isnan(np.array(matrices[CLASS_FALSE_ALARM], float)) if CLASS_FALSE_ALARM in matrices else False
    shift = np.where(told, np.array(matrices[CLASS_SHIFT], float), moved)
    return {"threshold": f1, "matrices": {CLASS_SHIFT: shift}}


def _code(path: Path, cell: Record, options, known: dict) -> Iterator[str]:
    """Which of its sources are no longer what it was measured with."""
    if "external" in cell.spec:
        raise _Open("code, of which nothing is known: the scores are from elsewhere")
    if "code" not in cell:
        raise _Open("code, which they do not tell: they are of before it was recorded")
    for kind in other_parts(cell):
        yield f"its {kind} is other code today: --redo changed measures it anew"


def _scores(path: Path, cell: Record, options, known: dict) -> Iterator[str]:
    """Where its numbers are none that its test images can give, or not those that its stored scores give."""
    identity = tuple(
        str(cell.spec[key]) for key in ("scenario", "scenario_version", "order", "image_size", "fingerprint")
    )
    if identity not in known:
        try:
            known[identity] = truth_of(cell.spec, options)
        except BadInput as reason:
            known[identity] = _Open(f"scores: {reason}")
    if isinstance(known[identity], _Open):
        raise known[identity]
    stream, truth = known[identity]
    yield from _impossible(cell, truth)
    if cell.spec.metric_version != METRIC_VERSION:
        raise _Open(f"scores: they are of version {cell.spec.metric_version} of the metrics, here is {METRIC_VERSION}")
    if not stored.scores_path(path).is_file():
        raise _Open("scores, which are not kept beside them: only that their test images can give such numbers")
    try:
        new = rescored(path, cell, stream, truth)
    except BadInput as fault:
        yield str(fault)
        return
    for part in SCORED:
        yield from _same(cell[part], new[part], part)


def _impossible(cell: Record, truth: Truth) -> Iterator[str]:
    """Numbers that no scores give: an AUROC counts pairs of images, a recall images."""
    counts = np.array([[(labels == 0).sum(), (labels == 1).sum()] for labels in truth.labels])
    normal, anomalous = counts.T
    units = {"image_auroc": 2 * normal * anomalous, "map_max_image_auroc": 2 * normal * anomalous}
    units |= dict.fromkeys(("image_recall_fpr1", "image_recall_fpr5", CLASS_RECALL), anomalous)
    units[CLASS_FALSE_ALARM] = normal
    for metric, unit in units.items():
        for step, row in enumerate(cell["matrices"].get(metric, ())):
            places = np.array(row, float) * unit
            for column in np.flatnonzero(np.abs(places - np.round(places)) > 1e-6):
                yield (
                    f"{metric} of {cell.spec.classes[column]!r} after step {step + 1} is {row[column]!r}, which "
                    f"{normal[column]} normal and {anomalous[column]} anomalous images cannot give"
                )


def _rerun(path: Path, cell: Record, options) -> Iterator[str]:
    """What another run of the cell gives otherwise."""
    context = pool.cell_server()
    try:
        planned = pool.call(context, _planned, path, cell, options)
    except BadInput as reason:
        yield f"it cannot be run again: {reason}"
        return
    with tempfile.TemporaryDirectory() as folder:
        threads = cell["environment"].get("threads", 1)
        how = {"jobs": 1, "threads": threads, "loggers": (), "on_event": lambda cell, event: None}
        pool.run_in_processes(context, [planned], Path(folder), **how)
        new = results.read(results.cell_path(Path(folder), cell.spec))
    if new["status"] != "ok":
        yield f"another run of it failed: {new['reason'].strip().splitlines()[-1]}"
        return
    for part in SCORED:
        yield from _same(cell[part], new[part], f"run again, {part}")


def _planned(path: Path, cell: Record, options):
    from bench.runner.again import again

    planned = again(path, cell.spec, options)
    kept = cell.get("stored", {}).get("maps", False)  # its numbers are then those of the maps as stored
    return replace(planned, request=replace(planned.request, save_maps=kept))


def _same(given, made, part: str) -> Iterator[str]:
    """Which arrays of `given` are not what was `made`, and how far they are off; both by name, one alone or None."""
    given, made = ({"": each} if isinstance(each, list) else each or {} for each in (given, made))
    for name, values in made.items():
        told = f"{part} {name}".rstrip()
        old, new = np.array(given.get(name, np.nan), float), np.array(values, float)
        if old.shape != new.shape or (np.isnan(old) != np.isnan(new)).any():
            yield f"{told} has other gaps than what it is made of gives"
        elif (off := np.nanmax(np.abs(old - new), initial=0)) > TOLERANCE:
            yield f"{told} is off by {off:.3g}"
