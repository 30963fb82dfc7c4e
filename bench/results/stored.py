"""The scores that a run keeps beside its cell file, and its anomaly maps if asked: what every metric comes from.

`seed-<k>.scores.npz` holds plain numbers under these names (steps from 0, classes by name):

    run                         ()         uint64   hash of what was run; no part of a submission
    step-0/bottle/scores        (n,)       float32  of the test images of a class seen, in the data set's order
    step-0/bottle/maps          (n, H, W)  uint16   quantised; all classes and steps have them, or none
    step-0/bottle/scale         (k,)       float64  what the codes stand for, see `restore`: 2 to 257 rising numbers
    step-0/bottle/peaks         (n,)       float32  maximum of each map; no part of a submission
    step-0/bottle/routes        (n,)       int32    step that each image was assigned to, where a method routes
    step-0/bottle/calibration   (m,)       float32  of the normal images held out of training: they set thresholds
    step-0/calibration          (m,)       float32  likewise of a whole step, in older files and submissions: not used

Scores may be float64 where a detector gives them so: a cast would make ties. Between evaluations (`bench run
--eval-every`, `--eval-final`) a step has the classes that it brought, and no others.
"""

import hashlib
import os
import re
import zipfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from bench import results
from bench.errors import BadInput
from bench.metrics.scoring import Judged
from bench.results.archive import Archive

LEVELS = 2**16 - 1
KNOTS = 257  # of a scale at most: 256 stretches of 256 levels
ENTRY = re.compile(r"step-(\d{1,5})/(?:([^/]+)/)?([a-z]+)", re.ASCII)
TYPES = {"scores": "float32", "maps": "uint16", "scale": "float64", "routes": "int32"}


def scores_path(cell: Path) -> Path:
    """Where the scores of the cell file `cell` lie."""
    return cell.with_suffix(".scores.npz")


def checksum(path: Path) -> str:
    """SHA-256 of a file of scores."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def run_of(spec: dict) -> int:
    """64 bits that name what was run: all of the spec but the version of the metrics, which scores do not depend on."""
    return int(results.key_of(spec | {"metric_version": 0}), 16)


def quantise(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(codes (n, H, W) uint16, scale (k,) float64) of float maps; see `restore`.

    Raises:
        ValueError: for NaN and infinite values, as the metrics do.
    """
    scale, codes = scale_of(maps.copy()), np.empty(maps.shape, np.uint16)
    for code, one in zip(codes, maps, strict=True):
        code[:] = codes_of(one, scale)
    return codes, scale


def scale_of(maps: np.ndarray) -> np.ndarray:
    """The scale alone, of contiguous maps that are sorted in place: a second copy of them may not fit into memory.

    The knots of the scale lie at quantiles that are even in their log-odds, so both tails, where rankings are decided,
    have levels of their own however long they are: even levels would make a map depend on its scores' scale.
    """
    ordered = maps.reshape(-1) if maps.size else np.zeros(1)
    ordered.sort()
    if not np.isfinite(ordered[[0, -1]]).all():  # NaN is sorted to the end
        raise ValueError("a map holds NaN or infinite values; a ranking needs finite scores")
    odds = np.linspace(-1, 1, KNOTS - 2) * np.log(len(ordered) + 1)
    places = np.rint((len(ordered) - 1) / (1 + np.exp(-odds))).astype(int)
    knots = np.unique(ordered[[0, *places, -1]].astype(float))
    return knots if len(knots) > 1 else np.repeat(knots, 2)


def codes_of(image: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The codes of one map, which passes through float64."""
    return np.rint(np.interp(image, scale, _codes(scale))).astype(np.uint16)


def restore(codes: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """(n, H, W) float32 maps: codes 0..65535, cut into as many even stretches as there are between the knots of the
    scale, each running straight from one knot to the next. With two knots: lowest and highest."""
    maps = np.empty(codes.shape, np.float32)
    for one, code in zip(maps, codes, strict=True):
        one[...] = np.interp(code, _codes(scale), scale)
    return maps


def _codes(scale: np.ndarray) -> np.ndarray:
    """The codes at the knots: whole numbers, so that a knot is kept exactly, with all that ties there."""
    return np.rint(np.linspace(0, LEVELS, len(scale)))


@dataclass(frozen=True)
class StoredScores:
    """All that was stored of a run, keyed by (step from 0, class name). Maps are read when they are asked for."""

    path: Path
    run: int | None
    scores: dict[tuple[int, str], np.ndarray]
    routes: dict[tuple[int, str], np.ndarray]
    peaks: dict[tuple[int, str], np.ndarray]  # empty in files of before they were kept
    scales: dict[tuple[int, str], np.ndarray]  # empty where no maps were saved
    calibration: dict[tuple[int, str], np.ndarray]  # empty where no images were held out

    @property
    def steps(self) -> int:
        """How many steps it holds."""
        return 1 + max((step for step, _ in self.scores), default=-1)

    def maps(self, step: int, name: str) -> np.ndarray | None:
        """(n, H, W) float32 of a class after a step; None where no maps were saved."""
        if (step, name) not in self.scales:
            return None
        with Archive(self.path) as archive:
            return restore(archive.read(f"step-{step}/{name}/maps"), self.scales[step, name])

    def judged(self, step: int, classes: tuple[str, ...]) -> Mapping[int, Judged]:
        """What was said after a step of each class tested, by column; maps are read when they are asked for."""
        return {
            column: Judged(
                self.scores[step, name],
                partial(self.maps, step, name) if (step, name) in self.scales else None,
                self.routes.get((step, name)),
                self.peaks.get((step, name)),
            )
            for column, name in enumerate(classes)
            if (step, name) in self.scores
        }

    def held_out(self, step: int, classes: tuple[str, ...]) -> Mapping[int, Judged]:
        """What was said after a step of the images held out of training, by column."""
        columns = {name: column for column, name in enumerate(classes)}
        found = {columns[name]: Judged(scores) for (t, name), scores in self.calibration.items() if t == step}
        return dict(sorted(found.items()))


def read_stored(path: Path) -> StoredScores:
    """What lies in `path`.

    Raises:
        BadInput: if there is nothing, or something else.
    """
    parts: dict[str, dict] = {"scores": {}, "routes": {}, "peaks": {}, "scale": {}, "calibration": {}}
    run = None
    with Archive(path) as archive:
        for entry in archive.entries:
            step, name, part = split(entry)
            if part in parts and name:
                parts[part][step, name] = archive.read(entry)
            elif part == "run":
                run = int(archive.read(entry))
    return StoredScores(
        Path(path),
        run,
        **{part: parts[part] for part in ("scores", "routes", "peaks", "calibration")},
        scales=parts["scale"],
    )


def split(entry: str) -> tuple[int, str, str]:
    """(step, class, part) of an entry; a step's own parts have the class "", `run` has step -1.

    Raises:
        BadInput: for any other name.
    """
    if entry == "run":
        return -1, "", entry
    found = ENTRY.fullmatch(entry)
    if not found:
        raise BadInput(f"the entry {entry[:120]!r} is none of step-K/calibration and step-K/CLASS/PART.")
    return int(found[1]), found[2] or "", found[3]


def write_stored(path: Path, arrays: Iterable[tuple[str, np.ndarray]], *, compress: bool = True) -> None:
    """Write (full name, array) pairs as they come; the file is replaced whole or not at all.

    Raises:
        BadInput: if the disk does not take it.
    """
    way = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(temporary, "w", way) as archive:
            for name, values in arrays:
                info = zipfile.ZipInfo(f"{name}.npy")  # of a fixed date: same arrays, same bytes
                info.compress_type = way
                with archive.open(info, "w", force_zip64=True) as target:
                    np.lib.format.write_array(target, np.asanyarray(values), allow_pickle=False)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise BadInput(
            f"{path} was not saved ({error.strerror}): free some space and run the same command again."
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()
