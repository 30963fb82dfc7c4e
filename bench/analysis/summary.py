"""What is taken from the record of one cell, and the mean over seeds with its 95 % interval."""

import math
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import NamedTuple

import numpy as np

from bench.metrics.statistics import LEVEL, Interval, interval, student_quantile
from bench.schema.cell import CLASS_SHIFT
from bench.schema.metric import METRICS
from bench.schema.record import Record


class Stat(NamedTuple):
    """Mean over `n` seeds with the half width of its 95 % interval; NaN where undefined."""

    mean: float
    half: float
    n: int


def stat(values: Iterable[float]) -> Stat:
    """Student-t interval of the mean. One missing value makes the mean missing: an average of what is left misleads."""
    values = list(values)
    if not values or any(math.isnan(value) for value in values):
        return Stat(math.nan, math.nan, len(values))
    n, mean = len(values), fmean(values)
    if n == 1:
        return Stat(mean, math.nan, 1)
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    return Stat(mean, student_quantile(LEVEL, n - 1) * math.sqrt(variance / n), n)


def learned_at(cell: Record) -> np.ndarray:
    """Step at which each class arrives, (C,)."""
    step_of = {name: step for step, names in enumerate(cell["spec"]["steps"]) for name in names}
    return np.array([step_of[name] for name in cell["spec"]["classes"]])


def classes_of(cell: Record, metric: str) -> list[str]:
    """The classes that a mean of `metric` is over, in the order of the stream: a pixel metric needs those with masks.

    Of a class whose test images are all normal there is no ranking, only false alarms. All of them where no class is
    left; the metric is then missing.
    """
    without = set(cell.get("unmasked", ()) if METRICS[metric].needs_masks else ())
    without |= set(one_kind_only(cell)) & set(_unknown_columns(cell, metric))
    return [name for name in cell["spec"]["classes"] if name not in without] or cell["spec"]["classes"]


def one_kind_only(cell: Record) -> list[str]:
    """The classes of a finished cell whose test images cannot be ranked: all are normal, or all are anomalous."""
    return _unknown_columns(cell, "image_auroc") if cell["status"] == "ok" else []


def _unknown_columns(cell: Record, metric: str) -> list[str]:
    """The classes of which R of `metric` has not one number."""
    R = cell["matrices"].get(metric) or [[]]
    return [
        name
        for column, (name, last) in enumerate(zip(cell["spec"]["classes"], R[-1], strict=False))
        if math.isnan(last) and all(math.isnan(row[column]) for row in R)
    ]


def matrix_of(cell: Record, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """(R, learned_at) of the classes that `metric` is a mean over, as `bench.metrics.matrix` takes them."""
    classes, over = cell["spec"]["classes"], set(classes_of(cell, metric))
    R = np.array(cell["matrices"].get(metric) or np.full((len(cell["spec"]["steps"]), len(classes)), np.nan), float)
    columns = [column for column, name in enumerate(classes) if name in over]
    return R[:, columns], learned_at(cell)[columns]


def steps_done(cell: Record) -> int:
    """Steps that the cell has been through; not every one need have been evaluated."""
    return len(cell["cost"].get("train_s") or [])


def final_scores(cell: Record, metric: str, classes: Sequence[str]) -> list[float]:
    """The last row of R, in the order of `classes`; NaN where the metric was not measured."""
    matrix = cell["matrices"].get(metric)
    last = dict(zip(cell["spec"]["classes"], matrix[-1], strict=True)) if matrix else {}
    return [last.get(name, math.nan) for name in classes]


def interval_of(cells: Sequence[Record], metric: str) -> Interval:
    """Final average of runs over the same classes, with its bootstrap interval over orders, seeds and classes."""
    classes = sorted(classes_of(cells[0], metric)) if cells else []
    scores = [final_scores(cell, metric, classes) for cell in cells]
    return interval(np.reshape(scores, (len(cells), len(classes))), [cell["spec"]["order"] for cell in cells])


def threshold_shifts(cell: Record) -> list[float]:
    """How far the threshold of each old class, set anew at the end, lies from the one set when the class was new.

    In standard deviations of the normal scores then; none at one step and without hold-out.
    """
    shift = np.array(cell["matrices"].get(CLASS_SHIFT) or [[]], float)[-1]
    last = len(cell["spec"]["steps"]) - 1
    return [float(value) for value, learned in zip(shift, learned_at(cell), strict=False) if learned < last]
