"""Any MVTec-like tree: <class>/train/good, <class>/test/<defect>, <class>/ground_truth/<defect>."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Sequence
from os.path import exists, isdir, isfile  # unlike Path's, these say False where permission is lacking
from pathlib import Path
from typing import NamedTuple

from bench.data import Sample, refuse
from bench.data.pixels import SUFFIXES
from bench.errors import BadInput

NEEDS = "--data DIR with <class>/train/good, <class>/test/good, <class>/test/<defect> and <class>/ground_truth/<defect>"
NORMAL = ("good", "ok", "normal")


class Found(NamedTuple):
    """What is in a data set, what is wrong with it, and what was passed over."""

    samples: list[Sample]
    problems: list[str]
    notes: list[str]


def samples(root: Path | None, categories: Sequence[str], options: dict) -> list[Sample]:
    """All images of the classes. Raises BadInput for an absent or wrong folder, an absent class or an absent mask.

    A mask is ground_truth/<defect>/<name>_mask or <name>, with any image suffix; the normal folders are good, ok or
    normal. The option `train_limit` keeps the first so many training images of each class.
    """
    found = walk(root, categories)
    refuse(found.problems)
    return limited(found.samples, options)


def walk(root: Path | None, categories: Sequence[str]) -> Found:
    """Like `samples`, with the problems of single images and classes listed instead of raised."""
    root = locate(root, lambda folder: any(isdir(folder / name) for name in categories), NEEDS)
    found = Found([], [], [])
    for category in categories:
        if isdir(root / category):
            _class(root / category, found)
        else:
            found.problems.append(absent(category, classes(root), f"a folder in {root}"))
    return found


def classes(root: Path) -> list[str]:
    """The folders that look like a class: those with `train` or `test` in them."""
    return [path.name for path in entries(root) if isdir(path / "train") or isdir(path / "test")]


def locate(root: Path | None, holds: Callable[[Path], bool], needs: str) -> Path:
    """The root, if it can be read and `holds` says that it is one; raises BadInput with the right path if it is near.

    A root in which nothing is wrong but the classes asked for passes: what is absent is named class by class.
    """
    if root is None:
        raise BadInput(f"No data folder was given: this needs {needs}.")
    root = Path(root)
    if not exists(root):
        raise BadInput(f"There is no folder {root}: this needs {needs}.")
    if not isdir(root):
        raise BadInput(f"{root} is a file, not a folder: this needs {needs}.")
    inside = [path for path in entries(root) if isdir(path)]
    if not holds(root):
        for near in [*inside, *list(root.resolve().parents)[:3]]:
            if holds(near):
                raise BadInput(f"{root} is the wrong level of the data set: give --data {near}.")
    if not inside:
        raise BadInput(f"There are no folders in {root}: this needs {needs}.")
    return root


def absent(category: str, there: Sequence[str], what: str) -> str:
    """The sentence for a class that a data set does not have."""
    near = difflib.get_close_matches(category, there, n=1)
    rest = f"the nearest is {near[0]!r}" if near else f"it has {', '.join(there) or 'no class at all'}"
    return f"The class {category!r} is not {what}: {rest}"


def limited(samples: list[Sample], options: dict) -> list[Sample]:
    """The samples, with at most `options["train_limit"]` training images of each class, the first by name."""
    unknown = set(options) - {"train_limit"}
    if unknown:
        raise BadInput(f"This reader has no option {min(unknown)!r}: it has train_limit.")
    limit = options.get("train_limit")
    if limit is None:
        return samples
    if type(limit) is not int or limit < 1:
        raise BadInput(f"The option train_limit is {limit!r}: it must be a whole number above 0.")
    kept, seen = [], {}
    for sample in sorted(samples, key=lambda sample: str(sample.image)):
        seen[sample.category] = seen.get(sample.category, 0) + (sample.split == "train")
        if sample.split == "test" or seen[sample.category] <= limit:
            kept.append(sample)
    return kept


def entries(folder: Path) -> list[Path]:
    """What is in a folder, sorted, without hidden files (macOS leaves `._000.png` that are no images)."""
    try:
        return sorted(folder / name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        raise BadInput(f"The folder {folder} cannot be read ({error.strerror}): check its permissions.") from error


def _class(folder: Path, found: Found) -> None:
    splits = [path for path in entries(folder) if path.name in ("train", "test") and isdir(path)]
    for split in splits:
        kinds = [path for path in entries(split) if isdir(path)]
        for kind in kinds:
            normal = kind.name.lower() in NORMAL
            if split.name == "test" or normal:
                _kind(folder, split.name, kind, normal, found)
            else:
                found.notes.append(f"{kind} is not read: training takes normal images only")


def _kind(folder: Path, split: str, kind: Path, normal: bool, found: Found) -> None:
    masks = {} if normal else {path.stem: path for path in _images(folder / "ground_truth" / kind.name, found)}
    for image in _images(kind, found):
        mask = masks.get(f"{image.stem}_mask", masks.get(image.stem))
        if mask is None and not normal:
            wanted = folder / "ground_truth" / kind.name / f"{image.stem}_mask.png"
            found.problems.append(f"The anomalous image {image} has no mask: put it at {wanted}")
        found.samples.append(Sample(folder.name, split, image, mask, int(not normal), "good" if normal else kind.name))


def _images(folder: Path, found: Found) -> list[Path]:
    inside = entries(folder) if isdir(folder) else []
    images = [path for path in inside if path.suffix.lower() in SUFFIXES and isfile(path)]
    found.notes.extend(f"{path} is no image and is not read" for path in inside if path not in set(images))
    return images
