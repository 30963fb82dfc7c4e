"""The check of a data folder: what is in it, what is wrong with it, and which streams can run on it."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from os.path import isdir
from pathlib import Path
from types import ModuleType

import numpy as np

from bench import registry
from bench.data.arrays import Progress, pixels_of, writable
from bench.data.download import download
from bench.data.fingerprint import contents, fingerprint, workers
from bench.data.listing import Item, gaps, item
from bench.data.near_duplicates import SIDE, twins
from bench.errors import BadInput
from bench.schema import stream as streams

__all__ = ["check", "download"]

KINDS = ("mvtec", "visa", "folder")
SHOWN = 10  # lines of a list, so that a broken data set does not scroll its own diagnosis away


def check(root: Path, reader: str | None = None, cache: Path | None = None, progress: Progress | None = None) -> str:
    """The report on a data folder, as text; every image and mask in it is decoded once.

    `reader` is mvtec, visa or folder; None finds out. `cache` keeps the hashes of the files for the next time.
    Raises BadInput if there is nothing to report on: no such folder, one of the wrong level, or one without a class.
    """
    if cache is None:
        with tempfile.TemporaryDirectory() as folder:
            return check(root, reader, Path(folder), progress)
    root, cache = Path(root).expanduser(), writable(cache)
    kind = _kind(root, reader)
    module = _module(kind)
    names = module.classes(root)
    found = module.walk(root, names)
    items = [item(sample, root, module, {}) for sample in found.samples]
    lacking = [f"Class {name!r} has no {words} images" for name in names for words in gaps(found.samples, name)]
    bad, small = _decoded(items, progress)
    parts = [
        f"{root}: {kind}, {len(names)} classes, {len(items)} images",
        _table(items, names, bad),
        _lines("problems", [*lacking, *found.problems, *bad.values()]),
        _lines("warnings", [*_warnings(items, names, module), *_copies(items, cache, small)]),
        _lines("not read", found.notes),
        _lines("streams that run on it", _runnable(items, names, kind, cache), limit=99),
        f"fingerprint of all of it: {fingerprint(items, cache)}",
    ]
    return "\n\n".join(parts)


def _kind(root: Path, kind: str | None) -> str:
    """The reader for a folder, found by what is in it unless given."""
    if kind not in (None, *KINDS):
        raise BadInput(f"The reader {kind!r} reads no folder that can be checked: use {', '.join(KINDS)}.")
    visa, mvtec, folder = map(_module, ("visa", "mvtec", "folder"))

    def holds(path: Path) -> bool:
        return visa.table(path) is not None or (isdir(path) and bool(folder.classes(path)))

    folder.locate(root, holds, folder.NEEDS)
    if not holds(root):
        raise BadInput(f"There is no class in {root}: this needs {folder.NEEDS}, or VisA as unpacked.")
    if kind or visa.table(root):
        return kind or "visa"
    return "mvtec" if set(mvtec.classes(root)) <= set(mvtec.OFFICIAL) else "folder"


def _module(name: str) -> ModuleType:
    return registry.find("scenario", name).load()


def _decoded(items: Sequence[Item], progress: Progress | None) -> tuple[dict[int, str], dict[int, np.ndarray]]:
    """What is wrong with an image or its mask, and small pixels of those that are right, by position of the item."""
    bad, small = {}, {}
    with ThreadPoolExecutor(workers()) as pool:
        for index, pixels in enumerate(pool.map(_pixels, items)):
            if isinstance(pixels, str):
                bad[index] = pixels
            elif pixels is not None:
                small[index] = pixels
            if progress:
                progress(index + 1, len(items))
    return bad, small


def _pixels(each: Item) -> np.ndarray | str | None:
    if each.sample.label and each.sample.mask is None:
        return None  # the reader has listed it already
    result = pixels_of(each, SIDE)  # the same decoding as at any size, and less to resize
    return result if isinstance(result, str) else result[0]


def _table(items: Sequence[Item], names: Sequence[str], bad: dict[int, str]) -> str:
    from tabulate import tabulate

    rows = []
    for name in names:
        mine = [(index, each.sample) for index, each in enumerate(items) if each.sample.category == name]
        count = Counter((sample.split, sample.label) for _, sample in mine)
        defects = [(index, sample) for index, sample in mine if sample.label]
        masked = sum(sample.mask is not None and index not in bad for index, sample in defects)
        kinds = sorted({sample.kind for _, sample in defects})
        rows.append([name, count["train", 0], count["test", 0], len(defects), masked, ", ".join(kinds) or "—"])
    return tabulate(rows, ["class", "train", "test good", "test anomalous", "good masks", "defects"], "simple")


def _warnings(items: Sequence[Item], names: Sequence[str], module: ModuleType) -> list[str]:
    """Where a data set differs from the official one: its numbers then compare with no printed table."""
    official = getattr(module, "OFFICIAL", {})
    count = Counter((each.sample.category, each.sample.split) for each in items)
    lines = [f"{name} is not here" for name in official if name not in names]
    lines += [f"{name} is not one of the official classes" for name in names if official and name not in official]
    for name in set(names) & set(official):
        for split, wanted in zip(("train", "test"), official[name], strict=True):
            if count[name, split] != wanted:
                lines.append(f"{name} has {count[name, split]} {split} images, officially {wanted}")
    return sorted(lines)


def _copies(items: Sequence[Item], cache: Path, small: Mapping[int, np.ndarray]) -> list[str]:
    """Test images that are among the training images, byte for byte or nearly: a memory knows them by heart."""
    known = contents({each.sample.image for each in items if isinstance(each.sample.image, Path)}, cache)
    trained_on = {known[each.sample.image]: each.place for each in items if each.sample.split == "train"}
    tested = [each for each in items if each.sample.split == "test"]
    pairs = [(each.place, trained_on.get(known[each.sample.image])) for each in tested]
    same = {test: train for test, train in pairs if train}
    alike = {test: train for test, train in twins(items, small) if test not in same}
    lines = [f"the test image {test} is the training image {train}" for test, train in same.items()]
    return lines + [f"the test image {test} nearly is the training image {train}" for test, train in alike.items()]


def _runnable(items: Sequence[Item], names: Sequence[str], kind: str, cache: Path) -> list[str]:
    readers = {"visa": ("visa",)}.get(kind, ("folder", "mvtec"))
    lines, known = [], {}
    for stream in map(streams.load, streams.names()):
        classes = frozenset(stream.classes)
        if stream.reader in readers and classes <= set(names) and not stream.options:
            if classes not in known:
                known[classes] = fingerprint([each for each in items if each.sample.category in classes], cache)
            lines.append(f"{stream.name}@{stream.version}  fingerprint {known[classes][:16]}")
    return lines


def _lines(title: str, lines: Sequence[str], limit: int = SHOWN) -> str:
    if not lines:
        return f"{title}: none"
    more = [f"  and {len(lines) - limit} more"] if len(lines) > limit else []
    return "\n".join([f"{title}: {len(lines)}", *(f"  {line}" for line in lines[:limit]), *more])
