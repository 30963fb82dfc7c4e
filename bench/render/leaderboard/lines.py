"""leaderboard.csv: a line per cell, what it is and every figure of it."""

import csv
import io
import math
from collections.abc import Sequence

from bench.analysis.groups import Section
from bench.analysis.labels import last_line
from bench.schema.record import Record

IDENTITY = ("scenario", "scenario_version", "fingerprint", "order", "image_size", "size", "metric_version", "method")
IDENTITY += ("detector", "variant", "backbone", "seed")


def csv_text(grouped: Sequence[Section]) -> str:
    """One line per cell, wide; empty: not measured."""
    found = [line for section in grouped for line in section_lines(section)]
    head = list(dict.fromkeys(name for line in found for name in line))
    text = io.StringIO()
    writer = csv.DictWriter(text, head, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {
            name: inert(value) if not isinstance(value, float) else "" if math.isnan(value) else f"{value:.8g}"
            for name, value in line.items()
        }
        for line in found
    )
    return text.getvalue()


def inert(value: object) -> object:
    """Text that a spreadsheet would run as a formula, quoted; numbers as they are."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        try:
            float(value)
        except ValueError:
            return f"'{value}"
    return value


def section_lines(section: Section) -> list[dict[str, object]]:
    """Of every cell of a section what it is, and its figures; NaN: not measured."""
    found = []
    for row in section.rows:
        figures = row.figures or [{}] * len(row.cells)
        found += [_identity(cell) | numbers for cell, numbers in zip(row.cells, figures, strict=True)]
    return found + [_identity(cell) for cell in section.skipped]


def _identity(cell: Record) -> dict[str, object]:
    spec, weights = cell["spec"], cell["spec"]["weights"]
    line = {name: spec[name] for name in IDENTITY}
    line |= {"weights": weights["kind"], "weights_source": weights["source"], "weights_sha256": weights["sha256"] or ""}
    line |= {"capabilities": " ".join(cell["capabilities"]), "device": cell["environment"].get("device", "")}
    line |= {"tuned_on": "; ".join(cell.get("tuned_on", ()))}
    line |= {"external": spec["external"]["author"]} if "external" in spec else {}
    return line | {"key": cell["key"], "status": cell["status"], "reason": last_line(cell["reason"] or "—")}
