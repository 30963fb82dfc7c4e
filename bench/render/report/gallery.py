"""Test images of a run whose maps were saved: the best judged, the worst, the most forgotten of each class."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.analysis.summary import learned_at
from bench.data import Arrays, load_known, rows_of
from bench.errors import BadInput
from bench.results import stored
from bench.schema import stream as streams
from bench.schema.record import Record

SIDE = 112  # px of a picture
STEPS = 6  # maps of a strip: the first, the last and those spread between
GAP = 4  # px
KINDS = ("best judged", "worst judged", "most forgotten")


@dataclass(frozen=True)
class Strip:
    """One test image: itself, its mask, its map after some steps."""

    category: str
    kind: str
    place: int  # in the class's test set, as `bench figure --images` counts
    ranks: list[tuple[int, float]]  # (step from 1, share of the class's normal images that score below it)
    pixels: np.ndarray  # (SIDE, width, 3) uint8


def strips(path: Path, cell: Record, options) -> Iterator[Strip]:
    """The strips of a finished cell; none where no maps were saved.

    `options` has data, scenario, plugin and cache, as `bench score` has. BadInput if the data are others.
    """
    file = stored.scores_path(path)
    held = stored.read_stored(file) if cell["status"] == "ok" and file.is_file() else None
    if not held or not held.scales:
        return
    spec = cell["spec"]
    if held.run != stored.run_of(spec):
        raise BadInput(f"{file.name} is of another run: run the cell again with --save-maps --redo all.")
    stream = streams.reorder(streams.load_stream(options.scenario or spec["scenario"]), spec["order"])
    if list(stream.classes) != spec["classes"]:
        raise BadInput(f"{spec['scenario']} has other classes than the cell: give its YAML file with --scenario.")
    arrays, _ = load_known(stream, spec["image_size"], spec["fingerprint"], options)
    for column, (name, learned) in enumerate(zip(stream.classes, learned_at(cell), strict=True)):
        yield from _of_class(held, arrays, rows_of(arrays, [column], train=False), name, range(learned, held.steps))


def _of_class(held: stored.StoredScores, arrays: Arrays, rows, name: str, steps: range) -> Iterator[Strip]:
    from matplotlib import colormaps

    labels = np.asarray(arrays.labels[rows])
    standing = np.array([_standing(held.scores[step, name], labels) for step in steps])  # (steps, images)
    shown = np.unique(np.linspace(0, len(steps) - 1, min(STEPS, len(steps)), dtype=int))
    maps = [held.maps(steps[i], name) for i in shown]
    for kind, place in _chosen(standing, np.flatnonzero(labels > 0)):
        pictures = [arrays.images[rows[place]], _grey(arrays.masks[rows[place]])]
        for each in maps:  # in cividis, from the least to the most of the class's test images after that step
            share = (each[place] - each.min()) / ((each.max() - each.min()) or 1)
            pictures.append((255 * colormaps["cividis"](share)[..., :3]).astype(np.uint8))
        ranks = [(steps[i] + 1, float(standing[i, place])) for i in shown]
        yield Strip(name, kind, int(place), ranks, _joined(pictures))


def _standing(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(n,) share of the normal images below each image, ties half: of an anomalous one, its part of the AUROC."""
    normal = np.sort(scores[labels == 0])
    below, upto = (np.searchsorted(normal, scores, side) for side in ("left", "right"))
    return (below + upto) / (2 * max(len(normal), 1))


def _chosen(standing: np.ndarray, anomalous: np.ndarray) -> list[tuple[str, int]]:
    """(kind, image) of the anomalous images; `most forgotten` only where one of them fell."""
    if not len(anomalous):
        return []
    final, fallen = standing[-1, anomalous], (standing.max(axis=0) - standing[-1])[anomalous]
    places = [anomalous[final.argmax()], anomalous[final.argmin()]]
    places += [anomalous[fallen.argmax()]] if fallen.max() > 0 else []
    return list(zip(KINDS, map(int, places), strict=False))


def _grey(mask: np.ndarray) -> np.ndarray:
    return np.repeat(np.where(mask, 255, 0).astype(np.uint8)[..., None], 3, axis=-1)


def _joined(pictures: list[np.ndarray]) -> np.ndarray:
    from PIL import Image

    strip = np.full((SIDE, len(pictures) * (SIDE + GAP) - GAP, 3), 255, np.uint8)
    for i, picture in enumerate(pictures):
        resized = Image.fromarray(np.ascontiguousarray(picture)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        strip[:, i * (SIDE + GAP) :][:, :SIDE] = resized
    return strip


def of_run(path: Path, cell: Record, options, site: Path, folder: str) -> dict:
    """Saves the strips of one run into `folder` of the site; what the template shows, or why there is nothing."""
    found = {"seed": cell["spec"]["seed"], "note": "", "classes": defaultdict(list)}
    try:
        for strip in strips(path, cell, options):
            name = f"{folder}/{strip.category.replace(':', '-')}.{KINDS.index(strip.kind)}.jpg"
            _save(strip.pixels, site / name)
            found["classes"][strip.category].append((strip, name))
    except BadInput as error:
        found["note"] = str(error)
    return found


def _save(pixels: np.ndarray, path: Path) -> None:
    from PIL import Image

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, quality=85)
    except OSError as error:
        raise BadInput(f"{path} was not written ({error.strerror}): choose another folder with --out") from error
