"""How long cells may take, from those that were measured: it orders a plan and weighs its progress."""

import csv
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from statistics import fmean, median

from bench import registry
from bench.schema.spec import Spec

# From the nearest kin to the farthest: cells of the same of these count as alike.
KIN = (("scenario", "size", "method", "detector"), ("size", "method", "detector"), ("method", "detector"), ("method",))
TABLE = "leaderboard.csv"
OWN = registry.ROOT / "results" / TABLE  # the project's


def expected(specs: Iterable[Spec], root: Path) -> list[float]:
    """Seconds per cell on the machines that measured the results under `root` and those of the project.

    A cell that nothing is known of takes as long as the median of all that were measured; 1 where none was.
    """
    known, seconds = defaultdict(list), []
    for line in _measured(root):
        seconds.append(float(line["elapsed_s"]))
        for names in KIN:
            known[names, tuple(line[name] for name in names)].append(seconds[-1])
    typical = median(seconds) if seconds else 1.0
    return [_of_kin(spec, known) or typical for spec in specs]


def _of_kin(spec: Spec, known: dict) -> float | None:
    keys = ((names, tuple(spec[name] for name in names)) for names in KIN)
    return next((fmean(known[key]) for key in keys if key in known), None)


def _measured(root: Path) -> Iterable[dict[str, str]]:
    """Lines of finished cells with their times."""
    for table in {Path(root).resolve() / TABLE, OWN}:
        if table.is_file():
            with table.open(newline="", encoding="utf-8") as file:
                lines = list(csv.DictReader(file))
            yield from (line for line in lines if line["status"] == "ok" and line.get("elapsed_s"))
