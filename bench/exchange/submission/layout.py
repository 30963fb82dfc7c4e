"""What `scores.npz` of a submission must hold: every array, its type and shape, known before one is unpacked."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.data import Arrays, rows_of
from bench.errors import BadInput
from bench.metrics.scoring import Truth
from bench.results.archive import Archive
from bench.results.stored import KNOTS, TYPES, split
from bench.schema.stream import Stream

HEAD = 512  # bytes that an array takes beyond its numbers, in the archive's directory and its own header
ALONE = ("scores", "maps", "scale", "routes")


def limit(stream: Stream, truth: Truth, arrays: Arrays) -> int:
    """Bytes that the largest right file takes; compression only makes it smaller."""
    shapes = [shape for *_, shape in _possible(stream, truth)]
    numbers = sum(8 * int(np.prod(shape)) for shape in shapes) + 8 * int(np.count_nonzero(arrays.train))
    return numbers + HEAD * (len(shapes) + len(stream.steps) + 2)


def check_layout(archive: Archive, stream: Stream, truth: Truth, arrays: Arrays) -> None:
    """Compare names, types and shapes with what the scenario asks for.

    Raises:
        BadInput: for the first array that is unknown, absent, or of another type or shape.
    """
    path, wanted = archive.path, {name: (part, shape) for name, part, shape in _possible(stream, truth)}
    for name, (dtype, shape) in archive.entries.items():
        if name == "run":
            continue
        step, category, part = split(name)
        if step < len(stream.steps) and (category, part) == ("", "calibration"):
            columns = [column for column, learned in enumerate(stream.learned_at) if learned == step]
            most = len(rows_of(arrays, columns, train=True))
            if dtype != np.float32 or len(shape) != 1 or not 1 <= shape[0] <= most:
                right = f"float32 (1 to {most},), one per training image"
                raise BadInput(f"{path}: {name} is {dtype} {shape}: it must be {right}.")
            continue
        if name not in wanted:
            raise BadInput(f"{path}: {_unwanted(stream, name)}.")
        part, right = wanted[name]
        if part == "scale" and len(shape) == 1 and 2 <= shape[0] <= KNOTS:
            right = shape  # any number of knots
        if dtype != np.dtype(TYPES[part]) or shape != right:
            asked = f"2 to {KNOTS} numbers" if part == "scale" else right
            raise BadInput(f"{path}: {name} is {dtype} {shape}: it must be {TYPES[part]} {asked}.")
    _complete(path, archive.entries, wanted, len(stream.steps))


def check_values(path: Path, values: dict[str, np.ndarray]) -> None:
    """Demand numbers that can be ranked.

    Raises:
        BadInput: for NaN, infinity, a scale that turns a map round, or a route to a step yet to come.
    """
    for name, array in values.items():
        step, _, part = split(name)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise BadInput(f"{path}: {name} holds NaN or infinite numbers: a ranking needs finite ones.")
        if part == "scale" and not ((np.diff(array) >= 0).all() and np.abs(array).max() < np.finfo("float32").max):
            raise BadInput(f"{path}: {name} does not rise within float32: it runs from the lowest to the highest.")
        if part == "routes" and not ((array >= 0) & (array <= step)).all():
            raise BadInput(f"{path}: {name} leads to steps that there are not yet: routes run from 0 to {step}.")


def _possible(stream: Stream, truth: Truth) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """(name, part, shape) of every array that a class may have."""
    side = stream.image_size
    for step in range(len(stream.steps)):
        for column, (name, learned) in enumerate(zip(stream.classes, stream.learned_at, strict=True)):
            if learned <= step:
                count = len(truth.rows[column])
                shapes = {"scores": (count,), "maps": (count, side, side), "scale": (KNOTS,), "routes": (count,)}
                yield from ((f"step-{step}/{name}/{part}", part, shapes[part]) for part in ALONE)


def _unwanted(stream: Stream, name: str) -> str:
    step, category, part = split(name)
    if step >= len(stream.steps):
        return f"{name} is of step {step}, and {stream.name} has steps 0 to {len(stream.steps) - 1}"
    if category and category not in stream.classes:
        return f"{name} is of the class {category!r}, which {stream.name} has not"
    if part not in ALONE or not category:
        return f"{name} is no array of a submission: a class has {', '.join(ALONE)}, a step calibration"
    return f"{name} is of a class that has not been learned after step {step}"


def _complete(path: Path, entries: dict, wanted: dict, steps: int) -> None:
    """Scores are all there; maps with their scales, and routes, are all there or none; so are the calibrations."""
    names = {part: [name for name, (kind, _) in wanted.items() if kind == part] for part in ALONE}
    given = {part: [name for name in names[part] if name in entries] for part in ALONE}
    calibrations = [f"step-{step}/calibration" for step in range(steps)]
    groups = [(names["scores"], True), (names["routes"], bool(given["routes"]))]
    groups += [(names["maps"] + names["scale"], bool(given["maps"] or given["scale"]))]
    groups += [(calibrations, any(name in entries for name in calibrations))]
    for group, needed in groups:
        absent = [name for name in group if name not in entries]
        if needed and absent:
            more = f" and {len(absent) - 1} more arrays" if len(absent) > 1 else ""
            raise BadInput(f"{path} lacks {absent[0]}{more}: give them for every class and step.")
