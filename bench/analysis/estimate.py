"""What a cell will cost, from what finished cells cost.

`estimate` takes it from the records of those that did the same work on a machine of the same kind, `expected_seconds`
from tables alone: that orders a plan and weighs its progress.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from statistics import fmean, median
from typing import NamedTuple

from bench import registry
from bench.errors import BadInput
from bench.schema import stream
from bench.schema.cell import DEVICE_PEAK, FEATURES
from bench.schema.record import Record
from bench.schema.request import Cell
from bench.schema.spec import Spec

WORK = ("method", "method_config", "detector", "detector_config", "backbone", "backbone_arguments")
WORK += ("image_size", "size")
# From the nearest kin to the farthest: cells of the same of these count as alike.
KIN = (("scenario", "size", "method", "detector"), ("size", "method", "detector"), ("method", "detector"), ("method",))
TABLE = "leaderboard.csv"
OWN = registry.ROOT / "results" / TABLE  # the project's


class Estimate(NamedTuple):
    """Of one cell."""

    hours: float  # of training and testing, on the GPU or on a processor
    memory_gb: float  # most that is held on the GPU; without one, of main memory
    disk_mb: float  # result, scores, and the state from which a killed run goes on
    basis: str  # what it was taken from


def machine_of(record: Record) -> str:
    """As `bench.runner.environment.machine`: the GPU's name, or the processor's."""
    device = record.environment.get("device", "")
    return record.environment.get("cpu", "") if device == "cpu" else device


def estimate(cell: Cell, earlier: Iterable[tuple[Path, Record]], machine: str) -> Estimate | None:
    """The mean over the most similar of the `earlier` cells; None where none did this work on such a machine.

    Cells of the same stream come first, then those that kept features likewise (--feature-cache). From another stream,
    training is scaled by training images and testing by tested images, where both streams' are known.
    """
    found = [
        (path, record) for path, record in earlier
        if record.status == "ok" and machine_of(record) == machine and _work(record.spec) == _work(cell.spec)
    ]  # fmt: skip
    found = [pair for pair in found if _stream(pair[1].spec) == _stream(cell.spec)] or found
    cached = bool(cell.request.feature_cache)
    found = [pair for pair in found if (FEATURES[0] in pair[1].cost) == cached] or found
    scaled = [one for path, record in found if (one := _scaled(cell, path, record))]
    if not scaled:
        return None
    (record, *_), names = [record for _, record in found], sorted({record.spec.scenario for _, record in found})
    same = _stream(record.spec) == _stream(cell.spec)
    basis = f"{len(scaled)} cell{'s' * (len(scaled) > 1)} "
    basis += "like it" if same else f"of {', '.join(names)}, by images"
    basis += "" if (FEATURES[0] in record.cost) == cached else f", {'without' if cached else 'with'} a feature cache"
    hours, memory, disk = (fmean(column) for column in zip(*scaled, strict=True))
    return Estimate(hours, memory, disk, basis)


def _work(spec: Spec) -> tuple:
    """What is computed for an image."""
    return (*(spec[name] for name in WORK), spec.get("precision"), spec.get("auto_batch"))


def _stream(spec: Spec) -> tuple:
    """The classes that arrive together, in whatever order."""
    return spec["scenario"], spec["scenario_version"], sorted(sorted(step) for step in spec["steps"])


def _scaled(cell: Cell, path: Path, record: Record) -> tuple[float, float, float] | None:
    """(hours, GB, MB) of `record`, brought to the images of `cell`; None where those are not known."""
    from bench.data.counts import counts

    cost, there = record.cost, None
    if cell.images is not None:  # images that are looked at over all steps
        tests = [cell.images[name][1] for name in cell.stream.classes]
        there = sum(tests[c] for t in range(len(cell.stream.steps)) for c in cell.tested_after(t))
    train, test = None, _factor(there, sum(filter(None, cost.get("eval_images", ()))))
    if _stream(record.spec) == _stream(cell.spec):
        train, test = 1.0, test or 1.0
    elif cell.images is not None:
        with suppress(BadInput):  # a stream file or reader that is not at hand
            known = counts(stream.load_stream(record.spec.scenario))
            if known is not None:
                train = _factor(*(sum(count for count, _ in images.values()) for images in (cell.images, known)))
    if train is None or test is None:
        return None
    seconds = train * sum(filter(None, cost["train_s"])) + test * sum(filter(None, cost.get("eval_s", ())))
    held = max((*filter(None, cost.get(DEVICE_PEAK, ())), (cost["gpu"] or {}).get("allocated_bytes") or 0))
    kept = (cost["detector_bytes"] or 0) + (cost.get("carried_bytes") or [0])[-1]
    stored = record.stored or {"maps": False, "bytes": 0}
    disk = test * stored["bytes"] * (cell.request.save_maps or not stored["maps"])
    if cell.request.save_maps and not stored["maps"]:
        disk += (there or 0) * cell.spec["image_size"] ** 2 * 2  # 16 bits a pixel, before compression
    disk += path.stat().st_size + kept * (len(cell.stream.steps) if cell.request.keep else 1)
    return seconds / 3600, (held or cost["peak_rss_bytes"] or 0) / 1e9, disk / 1e6


def _factor(here: int | None, there: int) -> float | None:
    return here / there if here and there else None


def expected_seconds(specs: Iterable[Spec], root: Path) -> list[float]:
    """Seconds per cell on the machines that measured the results under `root` and those of the project.

    A cell that nothing is known of takes as long as the median of all that were measured; 1 where none was.
    """
    known, every = defaultdict(list), []
    for line in _measured(root):
        every.append(float(line["elapsed_s"]))
        for names in KIN:
            known[names, tuple(line[name] for name in names)].append(every[-1])
    typical, seconds = median(every) if every else 1.0, []
    for spec in specs:
        keys = ((names, tuple(spec[name] for name in names)) for names in KIN)
        seconds.append(next((fmean(known[key]) for key in keys if key in known), 0) or typical)
    return seconds


def _measured(root: Path) -> Iterable[dict[str, str]]:
    """Lines of finished cells with their times."""
    for table in {Path(root).resolve() / TABLE, OWN}:
        if table.is_file():
            with table.open(newline="", encoding="utf-8") as file:
                lines = list(csv.DictReader(file))
            yield from (line for line in lines if line["status"] == "ok" and line.get("elapsed_s"))
