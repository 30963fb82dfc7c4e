"""`bench advise`: from a folder of one's own images to one paragraph and one picture.

It takes what a factory has: classes without masks, classes with normal images only, flat folders of good pictures. What
these cannot tell (where a defect is, what is missed) is said to be unknown.
"""

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import results, session
from bench.analysis.estimate import expected_seconds
from bench.analysis.groups import sections
from bench.analysis.rows import Row
from bench.data import check as checking
from bench.data.sample import TEST_SHARE
from bench.errors import BadInput
from bench.metrics.thresholds import FALSE_ALARM_RATE
from bench.render.advice import write_advice
from bench.schema.execution import Execution
from bench.schema.request import Request

# In the order in which they are tried: what tells most per second comes first, the dear ones last.
SYSTEMS = (
    ("cl_patchcore", "patchcore"),
    ("finetune", "patchcore"),
    ("replay", "patchcore"),
    ("dinosaur", "position_bank"),
    ("replay", "reverse_distillation"),
    ("finetune", "reverse_distillation"),
    ("cadic", "token_bank"),
    ("scale", "reverse_distillation"),
)
FEWEST = 10  # training images of a class: below that neither a model nor a threshold means anything
PIXELS = {"tiny": 128, "paper": 256}  # what two cores manage, and what papers use


@dataclass(frozen=True)
class Advice:
    """What `advise` came to."""

    paragraph: str
    rows: list[Row]  # the recommended one first
    written: list[Path]
    untried: list[str]  # systems that the time did not allow


def advise(
    data: Path,
    out: Path,
    minutes: float,
    *,
    size: str = "tiny",
    backbone: str | None = None,
    weights: str | None = None,
    tell: Callable[[str], None] = print,
) -> Advice:
    """Check a folder, run a short list of systems on it within about `minutes`, and say which one suits it.

    Writes the stream file, the cells, `advice.md` and `advice.svg` into `out`; the same call goes on where it was
    stopped. The first two systems are run whatever the time; one that has begun is finished.

    Raises:
        BadInput: for a folder that cannot be used, with what to do.
    """
    started, data = time.monotonic(), Path(data).expanduser()
    report = checking.check_data(data, size=PIXELS[size])
    faults = [*report.leaks, *report.wrong, *(text for text in report.missing if not text.endswith("no test images"))]
    if faults:
        lists = f"lists all {len(faults)} problems" if len(faults) > 1 else "says more"
        raise BadInput(f"{data} is not ready: {faults[0].rstrip('.')}. `bench data check {data}` {lists}.")
    short = [(row["class"], FEWEST - row["train"]) for row in report.table if row["train"] < FEWEST]
    if short:
        told = ", ".join(f"{name} needs {more} more" for name, more in short)
        raise BadInput(f"{data} has too few normal images to train on: {told} ({FEWEST} of each class at least).")
    out.mkdir(parents=True, exist_ok=True)
    stream = out / "stream.yaml"
    stream.write_text(report.stream_file, encoding="utf-8")
    for line in (*report.taken, *report.alike, *report.too_small):
        tell(line)
    tell(f"classes: {len(report.table)}, images: {report.images}; one class per step: {stream}")
    ready = _with_tests(data, out / "data", report)
    rows, untried = [], list(SYSTEMS)
    execution = Execution(results=out / "results", jobs=1)
    for method, detector in SYSTEMS:
        asked = Request(
            methods=(method,), detectors=(detector,), scenarios=(str(stream),), data=ready, size=size,
            backbone=backbone, weights=weights, cache=out / "cache",
        )  # fmt: skip
        if len(SYSTEMS) - len(untried) >= 2 and _too_long(method, detector, rows, minutes * 60 + started):
            continue
        untried.remove((method, detector))
        outcome = session.run(asked, execution)
        paths = [results.cell_path(execution.results, cell.spec) for cell in outcome.cells if not cell.skip]
        found = [row for section in sections(map(results.read, paths)) for row in section.rows if not row.status]
        rows += found
    if not rows:
        raise BadInput(f"no system ran to its end: see {out / 'leaderboard.md'} for the reasons.")
    ranked = sorted(rows, key=_merit)
    left = [f"{method} on {detector}" for method, detector in untried]
    paragraph, written = write_advice(ranked, report.table, left, size, out)
    return Advice(paragraph, ranked, [*written, stream], left)


def _too_long(method: str, detector: str, rows: Sequence[Row], deadline: float) -> bool:
    """Whether a system would end after the deadline, judged by what the others took of what they were expected to."""
    spec = rows[0].spec if rows else None
    if spec is None:
        return time.monotonic() > deadline
    specs = [row.spec for row in rows] + [spec | {"method": method, "detector": detector}]
    *before, expected = expected_seconds(specs, Path("nowhere"))
    spent = [cell["cost"] for row in rows for cell in row.cells]
    took = sum(sum(cost["train_s"]) + sum(cost["eval_s"]) for cost in spent)
    return time.monotonic() + expected * took / sum(before) > deadline


def _with_tests(data: Path, folder: Path, report) -> Path:
    """The folder itself, or links to its images in which every class without test images has some."""
    lacking = {row["class"] for row in report.table if not row["test good"] and not row["test anomalous"]}
    if not lacking:
        return data
    _, names, found, _ = checking.read_folder(data, report.reader, {})
    for name in names:
        if name not in lacking:
            _link(folder / name, (data / name).resolve())
            continue
        pictures = sorted(sample.image for sample in found.samples if sample.category == name)
        for i, picture in enumerate(pictures):
            split = "test" if i % TEST_SHARE == TEST_SHARE - 1 else "train"
            _link(folder / name / split / "good" / picture.name, picture.resolve())
    return folder


def _link(place: Path, target: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    if not place.is_symlink():
        os.symlink(target, place)


def _merit(row: Row) -> tuple[float, float]:
    """Lower is better: image AUROC where there are defects to find, else how far the false alarms are from asked."""
    auroc, alarms = (row.stat(name).mean for name in ("final_image_auroc", "false_alarm"))
    return (-auroc if auroc == auroc else 0.0), (abs(alarms - FALSE_ALARM_RATE) if alarms == alarms else math.inf)
