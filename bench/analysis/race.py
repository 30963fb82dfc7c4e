"""Who takes part in a ranking, and what its rows are shown to be: not shown to differ from the best, or below it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

import numpy as np

from bench.analysis.rows import Row
from bench.analysis.summary import classes_of, final_scores
from bench.metrics.statistics import FEWEST_CLASSES, FEWEST_RUNS, LEVEL, CrossedMean, crossed_mean, holm

# Declared capabilities that make a method a reference and no rival.
BOUNDS = {"reads_ahead": "reads ahead", "task_oracle": "told the task", "unlimited_memory": "unlimited memory"}
BUDGETS = (("none", 0.0), ("≤ 1 MB", 1.0), ("≤ 10 MB", 10.0), ("≤ 100 MB", 100.0), ("unlimited", math.inf))


def out_of_race(row: Row) -> str:
    """Why a row is not ranked, in at most four words; "" for one that is."""
    if row.status:
        return row.status.partition(":")[0]
    if row.external:
        return "external"
    if found := [words for name, words in BOUNDS.items() if row.may(name)]:
        return found[0]
    if any((cell.get("wall") or {}).get("confined") is False for cell in row.cells):
        return "not confined"
    if row.unfinished:
        return f"{len(row.cells)} of {len(row.cells) + row.unfinished} seeds"
    return (
        "" if row.stat("final_image_auroc").n and not math.isnan(row.stat("final_image_auroc").mean) else "incomplete"
    )


def budget(row: Row) -> str:
    """The smallest memory budget that the row keeps within, by what it carried; declared ones are unlimited."""
    carried = row.stat("carried_mb").mean
    if row.may("unlimited_memory") or row.may("reads_ahead"):
        return BUDGETS[-1][0]
    return next((name for name, most in BUDGETS if carried <= most), BUDGETS[-1][0])


def difference(first: Row, second: Row, metric: str = "image_auroc") -> CrossedMean:
    """First minus second over the classes and the runs that both have: same data, order and seed; NaN without any."""
    tables = [{(cell["spec"]["order"], cell["spec"]["seed"]): cell for cell in row.cells} for row in (first, second)]
    shared = [key for key in tables[0] if key in tables[1]]
    if not shared:
        return CrossedMean(math.nan, ())
    classes = sorted(classes_of(first.cells[0], metric))
    scores = [[final_scores(table[key], metric, classes) for key in shared] for table in tables]
    return crossed_mean(np.subtract(*scores), [order for order, _ in shared])


@dataclass(frozen=True)
class Standing:
    """What a table of rows shows, by Holm's procedure over all pairs: the best was found by looking."""

    best: tuple[Row, ...]  # tier 1: the highest mean, and what is not shown to differ from it
    below: tuple[Row, ...]  # tier 2: shown to be below the highest
    untested: tuple[Row, ...]  # in the race, but with too few runs to show anything
    smallest: float  # median difference from the highest that this design could have shown; NaN: none could be

    def tier(self, row: Row) -> str:
        """`1`, `2`, how many runs it lacks, or why it does not race."""
        if reason := out_of_race(row):
            return reason
        if any(row is other for other in self.untested):
            return f"{len(row.cells)} run{'s' * (len(row.cells) > 1)}"
        return "1" if any(row is other for other in self.best) else "2"


def standing(rows: Sequence[Row], metric: str = "image_auroc") -> Standing:
    """Of the rows that race; those below the stated design (runs, classes) are not compared at all."""
    racing = sorted((row for row in rows if not out_of_race(row)), key=lambda row: -row.stat(f"final_{metric}").mean)
    tested = [
        row
        for row in racing
        if len(row.cells) >= FEWEST_RUNS and len(classes_of(row.cells[0], metric)) >= FEWEST_CLASSES
    ]
    untested = tuple(row for row in racing if not any(row is other for other in tested))
    if len(tested) < 2:
        return Standing((), (), tuple(racing), math.nan)
    means = [difference(tested[0], row, metric) for row in tested[1:]]
    pairs = len(list(combinations(tested, 2)))
    shown = holm(means, pairs)
    smallest = median(mean.half(1 - (1 - LEVEL) / pairs) for mean in means)
    best = (tested[0], *(row for row, lost in zip(tested[1:], shown, strict=True) if not lost))
    return Standing(best, tuple(row for row, lost in zip(tested[1:], shown, strict=True) if lost), untested, smallest)


def beside(row: Row, joint: Row) -> CrossedMean:
    """Row minus joint training, where the design allows a claim; NaN otherwise."""
    enough = len(row.spec["classes"]) >= FEWEST_CLASSES and min(len(row.cells), len(joint.cells)) >= FEWEST_RUNS
    return difference(row, joint) if enough else CrossedMean(math.nan, ())
