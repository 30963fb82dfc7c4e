"""Ranked tables: one board per section and set of weights, because what differs is never ranked together."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench.analysis.groups import Section
from bench.analysis.labels import masks_of
from bench.analysis.rows import Row
from bench.analysis.summary import FINAL
from bench.published import Published
from bench.render.leaderboard.compare import Comparison, compare
from bench.render.leaderboard.tables import score
from bench.schema.cell import Cell

METRICS = dict(
    zip(
        FINAL,
        ("image AUROC", "image AP", "image F1-max", "pixel AUROC", "pixel AP", "pixel F1-max", "pixel AUPRO"),
        strict=True,
    )
)
# figure -> (heading, kind of number, which end is better, group of columns)
COMMON = {
    "pooled_image_auroc": ("pooled AUROC", "score", "high", "line"),
    "threshold_f1": ("F1 at threshold", "score", "high", "line"),
    "threshold_precision": ("precision", "score", "high", "line"),
    "threshold_recall": ("recall", "score", "high", "line"),
    "false_alarm": ("false alarms", "percent", "low", "line"),
    "threshold_drift": ("threshold drift, sd", "amount", "low", "line"),
    "routing_accuracy": ("routing", "percent", "high", "line"),
    "carried_mb": ("carried MB", "amount", "low", "cost"),
    "train_s": ("train s", "timed", "low", "cost"),
    "ms_per_image_1": ("ms/image", "timed", "low", "cost"),
    "peak_rss_mb": ("RSS MB", "timed", "low", "cost"),
}
GROUPS = {"cost": "scores and cost", "line": "one threshold for the line", "all": "everything"}


@dataclass(frozen=True)
class Line:
    """A row of a board: one configuration."""

    row: Row
    href: str

    @property
    def seeds(self) -> str:
        """How many runs stand behind it, or which one is unfinished."""
        return f"seed {self.row.spec['seed']}" if self.row.status else str(len(self.row.cells))

    def mean(self, name: str) -> float:
        """A figure over seeds; missing where it would mix the times of several machines."""
        mixed = name in COMMON and COMMON[name][1] == "timed" and len(self.row.devices) > 1
        return float("nan") if mixed else self.row.stat(name).mean


@dataclass(frozen=True)
class Board:
    """Rows that may be ranked together."""

    title: str
    scenario: str
    weights: str
    facts: str
    lines: list[Line]


def leaderboard(sections: Sequence[Section], pages: Mapping[str, str]) -> dict:
    """Values of the template: every board, rows by final image AUROC, and what can be filtered for."""
    boards = [
        Board(section.title, section.spec["scenario"], named(weights), facts(section), _lines(rows, pages))
        for section in sections
        for weights, rows in section.by_weights().items()
    ]
    detectors = sorted({line.row.spec["detector"] for board in boards for line in board.lines})
    return {"boards": boards, "detectors": detectors, "metrics": METRICS, "common": COMMON, "groups": GROUPS}


def named(weights: tuple) -> str:
    """Kind, backbone and the start of the hash."""
    return " ".join(part for part in (weights[0], weights[1], weights[2][:8]) if part)


def facts(section: Section) -> str:
    """What all rows of a section have in common."""
    spec = section.spec
    text = (
        f"{len(spec['classes'])} classes in {len(spec['steps'])} steps, order {spec['order']}, "
        f"{spec['image_size']} px, size {spec['size']}, data {spec['fingerprint'][:12]}, "
        f"metrics version {spec['metric_version']}"
    )
    return ", ".join(filter(None, (text, masks_of(section.cells))))


def _lines(rows: Iterable[Row], pages: Mapping[str, str]) -> list[Line]:
    def place(row: Row):
        mean = row.stat("final_image_auroc").mean
        return bool(row.status), mean != mean, -mean if mean == mean else 0, row.label, row.spec["detector"]

    return [Line(row, pages[row.cells[0]["key"]]) for row in sorted(rows, key=place)]


def overview(cells: Iterable[Cell], broken: Sequence[str]) -> dict[str, int]:
    """How many there are of what."""
    cells = list(cells)
    states = Counter(cell["status"] for cell in cells)
    return {
        "finished cells": states["ok"],
        "methods": len({cell["spec"]["method"] for cell in cells}),
        "detectors": len({cell["spec"]["detector"] for cell in cells}),
        "scenarios": len({cell["spec"]["scenario"] for cell in cells}),
        "failed or partial": states["failed"] + states["partial"] + len(broken),
        "skipped pairs": states["skipped"],
    }


def published(sections: Sequence[Section], rows: Sequence[Published], pages: Mapping[str, str]) -> list[dict]:
    """Every section that papers have numbers for, its verdicts beside them."""
    found = [(section.title, compare(section, rows)) for section in sections]
    return [{"title": title, "lines": [_verdict(pair, pages) for pair in pairs]} for title, pairs in found if pairs]


def _verdict(pair: Comparison, pages: Mapping[str, str]) -> dict:
    row, printed, measured, verdict = pair
    return {
        "system": f"{row.label} + {row.spec['detector']}",
        "href": pages[row.cells[0]["key"]],
        "printed": printed,
        "metric": METRICS[printed.metric],
        "measured": measured,
        "verdict": verdict,
        "kind": verdict.split()[0],
        "lost": score(pair.lost),
    }
