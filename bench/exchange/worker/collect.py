"""Turns the answers of a foreign system into a submission: back in the order of the data set, maps in 16 bits."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.errors import BadInput
from bench.exchange.submission.reading import FORM, SCORES
from bench.exchange.worker import key as keys
from bench.exchange.worker.key import Key
from bench.results import stored
from bench.results.archive import Archive

PARTS = {"scores": "f", "maps": "f", "routes": "iu", "calibration": "f"}  # name -> kinds of number


def collect(options) -> Iterator[str]:
    """Read `step-K/scores.npz` of every step and write the folder's `scores.npz`; yields what to do next.

    Raises:
        BadInput: if answers are missing, or are not one per image.
    """
    folder, target = Path(options.folder), Path(options.folder, SCORES)
    stored.write_stored(target, _entries(folder, keys.read_key(folder)))
    yield f"wrote {target}: {target.stat().st_size:,} bytes"
    yield f"fill in {folder / FORM}, then: python -m bench submit {folder}"


def _entries(folder: Path, key: Key) -> Iterator[tuple[str, np.ndarray]]:
    """Everything that `scores.npz` is to hold, one step in memory at a time."""
    yield "run", np.array(0, np.uint64)
    for step in range(key.steps):
        answers = folder / f"step-{step}" / SCORES
        try:
            made = _by_class(answers, key, step)
        except ValueError as error:
            raise BadInput(f"{answers}: {error}.") from error
        for name, values in made.items():
            yield f"step-{step}/{name}", values


def _by_class(path: Path, key: Key, step: int) -> dict[str, np.ndarray]:
    """The arrays of one step by class, as `bench.results.stored` names them.

    Their names, types and shapes are compared with what was shown before they are read.
    """
    columns, places = key.shown(step)
    count = len(columns)
    right = {"scores": (count,), "maps": (count, key.image_size, key.image_size), "routes": (count,)}
    with Archive(path) as archive:
        if "scores" not in archive.entries:
            raise BadInput(f"{path} lacks the array scores: one number per test image of the step.")
        for name, (dtype, shape) in archive.entries.items():
            if name not in PARTS:
                raise BadInput(f"{path} has the unknown array {name[:60]!r}: known are {', '.join(PARTS)}.")
            wanted = right.get(name, shape[:1])
            if dtype.kind not in PARTS[name] or shape != wanted:
                kind = "floats" if PARTS[name] == "f" else "whole numbers"
                raise BadInput(f"{path}: {name} is {dtype} {shape}: it must be {kind} {wanted}, one per image shown.")
        values = {name: archive.read(name) for name in archive.entries}
    made = {"calibration": values["calibration"].astype(np.float32)} if "calibration" in values else {}
    for column in np.unique(columns):
        name, mine = key.classes[column], np.flatnonzero(columns == column)
        mine = mine[np.argsort(places[mine])]
        made[f"{name}/scores"] = values["scores"][mine].astype(np.float32)
        if "routes" in values:
            made[f"{name}/routes"] = values["routes"][mine].astype(np.int32)
        if "maps" in values:
            made[f"{name}/maps"], made[f"{name}/scale"] = stored.quantise(values["maps"][mine].astype(np.float32))
    return made
