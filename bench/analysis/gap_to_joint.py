"""How far below joint training a run ends: what ReplayCAD's authors print as their forgetting measure.

Theirs is joint training on real images minus joint training on replayed ones. Here it is joint training minus the end
of the stream, on the same data, detector, settings, weights and seed; so also for methods that replay nothing.
"""

import math
from collections.abc import Iterable

from bench.analysis.identity import surroundings
from bench.analysis.summary import classes_of, final_scores, matrix_of
from bench.metrics import definitions, matrix
from bench.schema.metric import summarised
from bench.schema.record import Record

JOINT = "joint"
ID = "joint_minus_replay"  # of bench.metrics.definitions


def joint_cells(cells: Iterable[Record]) -> tuple[Record, ...]:
    """The finished joint cells among `cells`."""
    return tuple(cell for cell in cells if cell["spec"]["method"] == JOINT and cell["status"] == "ok")


def joint_beside(cell: Record, joint: Iterable[Record]) -> Record | None:
    """The one of `joint` that differs from `cell` in the method only; the better one where joint has several settings.

    None where there is none, and for joint training itself.
    """
    if cell["spec"]["method"] == JOINT:
        return None
    own, seed = surroundings(cell["spec"]), cell["spec"]["seed"]
    same = [other for other in joint if other["spec"]["seed"] == seed and surroundings(other["spec"]) == own]
    return max(same, key=lambda other: _mean(other, "image_auroc"), default=None)


def gap_figures(cell: Record, joint: Iterable[Record]) -> dict[str, float]:
    """{"joint_minus_replay_METRIC": mean over classes of joint minus this}; NaN where either was not measured."""
    beside = joint_beside(cell, joint)
    return {f"{ID}_{metric}": _minus(cell, beside, metric) for metric in summarised()}


def definitions_of(cell: Record, metric: str, joint: Iterable[Record] = ()) -> dict[str, float]:
    """{id: value} of every definition, from R of `metric` and the joint cell beside it."""
    values = definitions.values(*matrix_of(cell, metric))
    return values | {ID: _minus(cell, joint_beside(cell, joint), metric)}


def _minus(cell: Record, joint: Record | None, metric: str) -> float:
    if joint is None:
        return math.nan
    classes = classes_of(cell, metric)
    return matrix.joint_minus_replay(final_scores(joint, metric, classes), final_scores(cell, metric, classes))


def _mean(cell: Record, metric: str) -> float:
    return matrix.final_average(*matrix_of(cell, metric))
