"""Cell files: where they lie, how they are written whole or not at all, read and locked."""

import errno
import hashlib
import json
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, get_args

from bench.cell import PER_STEP, SCHEMA, Cell, Spec, Status
from bench.errors import BadInput

NUMERIC = ("matrices", "pooled", "threshold", "routing_accuracy", "cost", "notes")  # where a null in a list means NaN
ADVICE = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space or raise the quota",
    errno.EROFS: "choose another folder with --results",
    errno.EACCES: "make it writable or choose another folder with --results",
    errno.EPERM: "make it writable or choose another folder with --results",
}


def key_of(spec: Spec) -> str:
    """First 16 hex digits of the SHA-256 of the canonical JSON (sorted keys, no spaces) of `spec`."""
    text = json.dumps(spec, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


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


def path_of(root: Path, spec: Spec) -> Path:
    """`root/<data set>/<stream>/<method>+<detector>[,option=value...]/seed-<k>.json`; another order is an option.

    So is the author of an external one: it never lies where a cell of ours does.
    """
    options = [spec["variant"]] if spec["variant"] else []
    if spec["order"] != "published":
        options.append(f"order={spec['order']}")
    if "external" in spec:
        options.append(f"external={spec['external']['author']}")
    folder = ",".join([f"{spec['method']}+{spec['detector']}", *options])
    folder = re.sub(r"[^\w.,=+-]", "-", folder)
    if len(folder) > 200:  # file systems stop at 255
        folder = f"{folder[:183]}-{hashlib.sha256(folder.encode()).hexdigest()[:16]}"
    return Path(root, spec["scenario"], folder, f"seed-{spec['seed']}.json")


def kept(path: Path, step: int) -> Path:
    """Where `--keep` leaves the weights and the memory after `step` (0-based) of the cell file `path`."""
    return path.with_suffix(f".step-{step}.ckpt")


def write(root: Path, cell: Cell) -> Path:
    """Replaces the cell's file in one move, so that a kill leaves the old file or the new one, never a half.

    Raises BadInput where the file cannot be saved (disk full, read-only folder); the old file is then intact.
    """
    path = path_of(root, cell["spec"])
    rewrite(path, cell)
    return path


def rewrite(path: Path, cell: Cell) -> None:
    """Replaces a cell file where it lies, in one move."""
    replace(path, _text(_folded(plain(cell))))


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


def replace(path: Path, content: str | bytes) -> None:
    """Writes a file in one move, its folder too; raises BadInput where that fails, the old file then intact."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
    except OSError as error:
        raise BadInput(f"{path} was not saved ({error.strerror}): {_way_out(error)}, then run again") from error


def _way_out(error: OSError) -> str:
    return ADVICE.get(error.errno, "choose another folder with --results")


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
    for part in cell.keys() & set(NUMERIC):
        cell[part] = _nan_for_null(cell[part])
    width = len(cell["spec"]["classes"])
    for matrix in cell["matrices"].values():
        matrix[:] = [row or [math.nan] * width for row in matrix]
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


def check(root: Path) -> None:
    """Raises BadInput unless `root` can be created and written to; leaves nothing behind but the folder."""
    probe = Path(root, f".probe.{os.getpid()}.tmp")
    try:
        replace(probe, "x")
        probe.unlink()
    except (OSError, BadInput) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        raise BadInput(f"results folder {root} cannot be written ({cause.strerror}): {_way_out(cause)}") from error


@contextmanager
def lock(root: Path) -> Iterator[None]:
    """Holds `root` for one run; raises BadInput at once where another run holds it. Readers need no lock.

    The kernel frees it when the process ends, however it ends.
    """
    from filelock import FileLock, Timeout

    check(root)
    folder = Path(root, ".lock")
    folder.mkdir(exist_ok=True)
    holder = folder / "pid"  # beside the lock, because some versions of filelock empty the lock file on opening
    guard = FileLock(folder / "lock")
    try:
        guard.acquire(blocking=False)
    except Timeout as error:
        pid = holder.read_text().strip() if holder.exists() else "unknown"
        raise BadInput(
            f"results folder {root} is in use by another run (process {pid}): "
            "wait for it, stop it, or choose another folder with --results"
        ) from error
    try:
        holder.write_text(f"{os.getpid()}\n")
        yield
    finally:
        guard.release()


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
