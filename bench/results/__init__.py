"""Cell files: written, read and checked; where they lie, how they are saved and locked."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from bench.errors import BadInput
from bench.results import cell_json as notation
from bench.results.cell_json import plain
from bench.results.disk import check, lock, replace
from bench.results.paths import kept, path_of
from bench.schema.cell import PER_STEP, SCHEMA, Cell, Spec, Status, key_of

__all__ = ["blank", "check", "kept", "key_of", "lock", "path_of", "plain"]
__all__ += ["read", "replace", "rewrite", "scan", "write"]


def blank(spec: Spec, capabilities: tuple[str, ...], status: Status, reason: str) -> Cell:
    """A cell in which nothing was measured: skipped, or dead before its first step."""
    empty = {name: [] for name in PER_STEP}
    return {
        "schema": SCHEMA,
        "key": key_of(spec),
        "spec": spec,
        "capabilities": list(capabilities),
        "status": status,
        "reason": reason,
        "matrices": {},
        "pooled": {},
        "threshold": {"value": [], "f1": [], "precision": [], "recall": [], "false_alarm": []},
        "routing_accuracy": None,
        "cost": empty
        | dict.fromkeys(("peak_rss_bytes", "parameters", "trainable_parameters", "detector_bytes", "gpu"))
        | {"ms_per_image": {}},
        "environment": {},
    }


def write(root: Path, cell: Cell) -> Path:
    """Replaces the cell's file in one move, so that a kill leaves the old file or the new one, never a half.

    Raises BadInput where the file cannot be saved (disk full, read-only folder); the old file is then intact.
    """
    path = path_of(root, cell["spec"])
    rewrite(path, cell)
    return path


def rewrite(path: Path, cell: Cell) -> None:
    """Replaces a cell file where it lies, in one move."""
    replace(path, notation.text(cell))


def read(path: Path) -> Cell:
    """One cell, null as NaN in its numbers. Raises BadInput for a missing, corrupt or foreign file."""
    try:
        cell = json.loads(Path(path).read_text(encoding="utf-8"))
        _validate(cell)
    except OSError as error:
        raise BadInput(
            f"{path} cannot be read ({error.strerror}): check the path, `bench show` takes a cell file"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        fault = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise BadInput(f"{path} is not a cell file ({fault}): delete it, or run again with --redo all") from error
    notation.restore(cell)
    return cell


def _validate(cell: dict) -> None:
    if cell["schema"] != SCHEMA:
        raise ValueError(f"schema {cell['schema']}, this version reads {SCHEMA}")
    if missing := Cell.__required_keys__ - cell.keys():
        raise ValueError(f"no {', '.join(sorted(missing))}")
    if missing := Spec.__required_keys__ - cell["spec"].keys():
        raise ValueError(f"its spec has no {', '.join(sorted(missing))}")
    if cell["status"] not in get_args(Status):
        raise ValueError(f"status {cell['status']!r}")
    if cell["key"] != key_of(cell["spec"]):
        raise ValueError("its key does not belong to its spec, so it was edited by hand")
    for part in ("matrices", "pooled", "threshold", "cost", "environment"):
        if not isinstance(cell[part], dict):
            raise ValueError(f"{part} is {cell[part]!r}")
    width = len(cell["spec"]["classes"])
    steps = len(cell["spec"]["steps"])
    for metric, matrix in cell["matrices"].items():
        short = len(matrix) < steps and cell["status"] == "ok"
        if short or len(matrix) > steps or any(row and len(row) != width for row in matrix):
            raise ValueError(f"{metric} is not a matrix of {steps} steps × {width} classes")


def scan(root: Path) -> Iterator[tuple[Path, Cell | BadInput]]:
    """Every cell file under `root` by path, in order; an unreadable one comes as the BadInput that says why."""
    for path in sorted(Path(root).rglob("seed-*.json")):
        try:
            yield path, read(path)
        except BadInput as error:
            yield path, error
