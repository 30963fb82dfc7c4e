"""How a record is written down: JSON that can be compared line by line, with null where a number is NaN."""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

NUMERIC = ("matrices", "pooled", "threshold", "routing_accuracy", "cost", "notes")  # where a null in a list means NaN
END, SEAL = "\n}\n", ',\n "checksum": '


def json_text(record: Mapping[str, Any]) -> str:
    """A cell file's content: one line per key of each part, so that a diff of two cells can be read."""
    content = plain(record)
    content["matrices"] = {  # rows of R without a number as []: over a long stream they would be most of the file
        name: [row if any(value is not None for value in row) else [] for row in matrix]
        for name, matrix in content["matrices"].items()
    }
    parts = []
    for key, value in content.items():
        text = json.dumps(value, allow_nan=False)
        if value and isinstance(value, dict):
            lines = [f"{json.dumps(name)}: {json.dumps(item, allow_nan=False)}" for name, item in value.items()]
            text = "{{\n  {}\n }}".format(",\n  ".join(lines))
        parts.append(f"{json.dumps(key)}: {text}")
    return "{\n " + ",\n ".join(parts) + END


def sealed(content: str) -> str:
    """A cell file's content with a checksum of all of it as its last line, so that no byte changes unseen."""
    body = content.removesuffix(END)
    return f"{body}{SEAL}{json.dumps(_digest(body.encode()))}{END}"


def is_whole(content: bytes) -> bool:
    """Whether the content of a file that has a checksum is what it was when `sealed` made it."""
    body, _, tail = content.replace(b"\r\n", b"\n").rpartition(SEAL.encode())
    return tail == f"{json.dumps(_digest(body))}{END}".encode()


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def restored(part: str, value: Any) -> Any:
    """Undo what `json_text` did to the numbers of a part of a record: NaN for null."""
    return _nan_for_null(value) if part in NUMERIC else value


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
    if isinstance(value, Mapping):
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
