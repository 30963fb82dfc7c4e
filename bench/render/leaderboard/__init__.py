"""Turns the cell files into leaderboard.md and leaderboard.csv: same files, same bytes."""

import csv
import gc
import io
import math
from collections.abc import Sequence
from pathlib import Path

from bench import published, results
from bench.analysis.groups import Section, sections
from bench.analysis.labels import last_line
from bench.errors import BadInput
from bench.render.leaderboard.page import page
from bench.schema.cell import Cell

IDENTITY = ("scenario", "scenario_version", "fingerprint", "order", "image_size", "size", "metric_version", "method")
IDENTITY += ("detector", "variant", "backbone", "seed")


def render(root: Path) -> tuple[str, str]:
    """Markdown and CSV of all cells under `root`."""
    gc.disable()  # cells hold no cycles, and to look for some among millions of numbers takes as long as to read them
    try:
        found = list(results.scan(root))
    finally:
        gc.enable()
    cells = [cell for _, cell in found if not isinstance(cell, BadInput)]
    broken = [  # the page is the same wherever the folder lies
        str(fault).replace(str(path), path.relative_to(root).as_posix())
        for path, fault in found
        if isinstance(fault, BadInput)
    ]
    grouped = sections(cells)
    return page(grouped, broken, load_published(root)), _csv(grouped)


def write(root: Path, markdown: Path | None = None) -> tuple[Path, Path]:
    """Writes `markdown` (default: leaderboard.md beside `root`) and `root`/leaderboard.csv; returns both paths."""
    paths = _paths(root, markdown)
    results.check(root)
    for path, text in zip(paths, render(root), strict=True):
        results.replace(path, text)
    return paths


def check(root: Path, markdown: Path | None = None) -> str:
    """Which file is not what `root` gives, in one sentence; "" where both are."""
    for path, text in zip(_paths(root, markdown), render(root), strict=True):
        if not path.exists() or path.read_bytes() != text.encode():
            return f"{path} is not what {root} gives: run `python -m bench leaderboard` and commit the result"
    return ""


def _paths(root: Path, markdown: Path | None) -> tuple[Path, Path]:
    root = Path(root)
    return Path(markdown) if markdown else root.resolve().parent / "leaderboard.md", root / "leaderboard.csv"


def load_published(root: Path) -> list[published.Published]:
    """The published numbers of `root`, or those of the repository."""
    own = Path(root, "published")
    return published.load(own if own.is_dir() else None)


def _csv(grouped: Sequence[Section]) -> str:
    """One line per cell, wide; empty: not measured."""
    lines = [line for section in grouped for line in _lines(section)]
    head = list(dict.fromkeys(name for line in lines for name in line))
    text = io.StringIO()
    writer = csv.DictWriter(text, head, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _lines(section: Section) -> list[dict[str, object]]:
    lines = []
    for row in section.rows:
        figures = row.figures or [{}] * len(row.cells)
        for cell, found in zip(row.cells, figures, strict=True):
            numbers = {name: "" if math.isnan(value) else f"{value:.8g}" for name, value in found.items()}
            lines.append(_identity(cell) | numbers)
    return lines + [_identity(cell) for cell in section.skipped]


def _identity(cell: Cell) -> dict[str, object]:
    spec, weights = cell["spec"], cell["spec"]["weights"]
    line = {name: spec[name] for name in IDENTITY}
    line |= {"weights": weights["kind"], "weights_source": weights["source"], "weights_sha256": weights["sha256"] or ""}
    line |= {"capabilities": " ".join(cell["capabilities"]), "device": cell["environment"].get("device", "")}
    line |= {"tuned_on": "; ".join(cell.get("tuned_on", ()))}
    line |= {"external": spec["external"]["author"]} if "external" in spec else {}
    return line | {"key": cell["key"], "status": cell["status"], "reason": last_line(cell["reason"] or "—")}
