"""How a cell is written down: JSON that can be compared line by line, with null where a number is NaN."""

import json
import math
from typing import Any

from bench.schema.cell import Cell

NUMERIC = ("matrices", "pooled", "threshold", "routing_accuracy", "cost", "notes")  # where a null in a list means NaN


def text(cell: Cell) -> str:
    """A cell file's content."""
    return _text(_folded(plain(cell)))


def restore(cell: dict) -> None:
    """Undo in place what `text` did to the numbers: NaN for null, rows of R that were left out."""
    for part in cell.keys() & set(NUMERIC):
        cell[part] = _nan_for_null(cell[part])
    width = len(cell["spec"]["classes"])
    for matrix in cell["matrices"].values():
        matrix[:] = [row or [math.nan] * width for row in matrix]


def plain(value: Any) -> Any:
    """JSON types only: arrays as lists, NaN and infinities as null."""
    if getattr(value, "ndim", 0) and value.dtype.kind == "f":
        finite = abs(value) < math.inf
        if finite.all():
            return value.tolist()
        value = value.astype(object)
        value[~finite] = None
        return value.tolist()
    if hasattr(value, "tolist"):  # NumPy arrays and scalars
        value = value.tolist()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _nan_for_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _nan_for_null(item) for key, item in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], list):
        return [_nan_for_null(row) for row in value]
    return [math.nan if item is None else item for item in value] if isinstance(value, list) else value


def _folded(cell: dict) -> dict:
    """Rows of R without a number as []: over a long stream they would be most of the file."""
    matrices = {
        name: [row if any(value is not None for value in row) else [] for row in matrix]
        for name, matrix in cell["matrices"].items()
    }
    return cell | {"matrices": matrices}


def _text(cell: dict) -> str:
    """JSON with one line per key of each part, so that a diff of two cells can be read."""
    parts = []
    for key, value in cell.items():
        text = json.dumps(value, allow_nan=False)
        if value and isinstance(value, dict):
            text = ",\n  ".join(
                f"{json.dumps(name)}: {json.dumps(item, allow_nan=False)}" for name, item in value.items()
            )
            text = f"{{\n  {text}\n }}"
        parts.append(f"{json.dumps(key)}: {text}")
    return "{\n " + ",\n ".join(parts) + "\n}\n"
