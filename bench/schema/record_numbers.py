"""Whether the numbers of a record fit its stream, and are values that their metrics can have."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from bench.schema import metric as metrics

if TYPE_CHECKING:
    from bench.schema.record import Record


def check_matrices(record: Record) -> None:
    """Raises ValueError for a matrix that does not fit the stream, and for values that its metric cannot have."""
    width, steps = len(record.spec.classes), len(record.spec.steps)
    if sorted(name for step in record.spec.steps for name in step) != sorted(record.spec.classes):
        raise ValueError("its classes are not those of its steps")
    if other := set(record.unmasked or ()) - set(record.spec.classes):
        raise ValueError(f"it has no class {min(other)!r}, which it calls unmasked")
    for metric, matrix in record.matrices.items():
        matrix[:] = [row or [math.nan] * width for row in matrix]
        short = len(matrix) < steps and record.status == "ok"
        if short or len(matrix) > steps or any(len(row) != width for row in matrix):
            raise ValueError(f"{metric} is not a matrix of {steps} steps × {width} classes")
        known = metrics.METRICS.get(metric)
        if wrong := known.impossible(value for row in matrix for value in row) if known else []:
            raise ValueError(f"{metric} is {wrong[0]}, and lies in {known.low:g} to {known.high:g}")


def check_lists(record: Record) -> None:
    """Raises ValueError for a list by step that is longer than the stream, or holds what cannot be."""
    steps = len(record.spec.steps)
    lists = {**record.pooled, **record.threshold, "routing_accuracy": record.routing_accuracy or []}
    lists |= {name: value for name, value in record.cost.items() if isinstance(value, list)}
    for name, values in lists.items():
        if not isinstance(values, list) or any(type(value) not in (int, float) for value in values):
            raise ValueError(f"{name} is no list of numbers")
        if len(values) > steps:
            raise ValueError(f"{name} has {len(values)} numbers for {steps} steps")
    for metric, values in record.pooled.items():
        if wrong := [value for value in values if not (math.isnan(value) or 0 <= value <= 1)]:
            raise ValueError(f"pooled {metric} is {wrong[0]}, and lies in 0 to 1")
