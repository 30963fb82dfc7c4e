"""What did not run to its end, with the reason in full: failures, partial cells, unreadable files, skipped pairs."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath

from bench.analysis.labels import last_line
from bench.analysis.summary import steps_done
from bench.schema.record import Record


def faults(cells: Mapping[PurePath, Record], broken: Sequence[str], pages: Mapping[str, str]) -> dict:
    """Values of the template."""
    skipped = defaultdict(set)  # (method, reason): detectors
    for cell in cells.values():
        if cell["status"] == "skipped":
            skipped[cell["spec"]["method"], last_line(cell["reason"])].add(cell["spec"]["detector"])
    return {
        "failed": [_line(path, cell, pages) for path, cell in cells.items() if cell["status"] == "failed"],
        "partial": [_line(path, cell, pages) for path, cell in cells.items() if cell["status"] == "partial"],
        "broken": broken,
        "skipped": [(*key, sorted(detectors)) for key, detectors in sorted(skipped.items())],
        "pairs": len(skipped_pairs(cells.values())),
    }


def skipped_pairs(cells: Iterable[Record]) -> set[tuple[str, str]]:
    """(method, detector) that make no sense together, each once, on however many streams it was asked for."""
    return {(cell["spec"]["method"], cell["spec"]["detector"]) for cell in cells if cell["status"] == "skipped"}


def _line(path: PurePath, cell: Record, pages: Mapping[str, str]) -> dict:
    return {
        "name": path.with_suffix("").as_posix(),
        "href": pages[cell["key"]],
        "error": last_line(cell["reason"]) if cell["reason"] else "",
        "reason": cell["reason"],
        "steps": f"{steps_done(cell)} of {len(cell['spec']['steps'])} steps",
    }
