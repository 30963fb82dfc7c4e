"""The share of fine-tuning's drift that a method leaves: near 1 its mechanism is inert, near 0 it freezes the detector.

Drift is how far the scores of normal images held out of training have moved since their class was new: the distance of
their threshold from the first one, in standard deviations of the scores then, mean over old classes. It comes from what
a cell records anyway, and is told where images were held out and fine-tuning ran on the same data, detector and seed.
"""

import math
from collections.abc import Iterable
from statistics import fmean

from bench.analysis.identity import surroundings
from bench.analysis.summary import threshold_shifts
from bench.schema.record import Record

FINETUNE = "finetune"
ID = "drift_left"
INERT, FROZEN = 0.7, 0.1  # beyond these a penalty does next to nothing, or lets next to nothing be learned


def finetuned_cells(cells: Iterable[Record]) -> tuple[Record, ...]:
    """The finished fine-tuned cells among `cells`."""
    return tuple(cell for cell in cells if cell["spec"]["method"] == FINETUNE and cell["status"] == "ok")


def drift_left_figures(cell: Record, finetuned: Iterable[Record]) -> dict[str, float]:
    """{"drift_left": drift of `cell` over that of the one of `finetuned` beside it}; NaN where there is none."""
    beside = finetuned_beside(cell, finetuned)
    whole = _drift(beside) if beside else math.nan
    return {ID: _drift(cell) / whole if whole else math.nan}


def finetuned_beside(cell: Record, finetuned: Iterable[Record]) -> Record | None:
    """The one of `finetuned` that differs from `cell` in the method only; None where there is none."""
    own, seed = surroundings(cell["spec"]), cell["spec"]["seed"]
    same = (one for one in finetuned if one["spec"]["seed"] == seed and surroundings(one["spec"]) == own)
    return next(same, None)


def is_outside_band(share: float, cell: Record) -> bool:
    """Whether a method that is set by a strength leaves a share of the drift that says it is set wrong there."""
    return "strength" in cell["spec"]["method_config"] and not (math.isnan(share) or FROZEN <= share <= INERT)


def _drift(cell: Record) -> float:
    shifts = threshold_shifts(cell)
    return fmean(map(abs, shifts)) if shifts else math.nan
