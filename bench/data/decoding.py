"""Decoding all images of a stream into a folder of the cache, from which they are memory-mapped."""

from __future__ import annotations

import shutil
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from bench.data import pixels
from bench.data.fingerprint import read_json, repeated, workers, write_json
from bench.data.listing import refuse
from bench.data.pixels import decode
from bench.data.sample import Item
from bench.errors import BadInput

Progress = Callable[[int, int], None]  # called with (images done, images in all)
PIXELS = ("images.npy", "masks.npy")  # of a folder of the cache


def decode_all(items: Sequence[Item], size: int, place: Path, progress: Progress | None) -> dict:
    """Decode the items into `place`, whole or not at all; returns what `complete_pixels` then knows of them.

    Raises:
        BadInput: where there is no room, or an image or a mask is wrong, after looking at all of them.
    """
    temporary = place.with_name(f"{place.name}.tmp")
    for stale in (temporary, place):  # left by a killed process: the lock is ours, so nobody is at work in there
        shutil.rmtree(stale, ignore_errors=True)
    _check_room(place.parent, len(items) * size * size * 4)
    temporary.mkdir()
    array = partial(np.lib.format.open_memmap, mode="w+")
    images = array(temporary / "images.npy", dtype=np.uint8, shape=(len(items), size, size, 3))
    masks = array(temporary / "masks.npy", dtype=np.bool_, shape=(len(items), size, size))
    items, depths = with_bits(items)
    problems, lost, odd = [], [], []
    with ThreadPoolExecutor(workers()) as pool:
        for row, result in enumerate(_windowed(pool, items, size)):
            if isinstance(result, str):
                problems.append(result)
            else:
                images[row], mask = result
                if mask.any():  # rows never written stay holes in the file: most images have no defect
                    masks[row] = mask
                    if looks_inverted(mask):
                        odd.append(items[row])
                elif items[row].sample.label and not is_unmasked(items[row]):
                    lost.append(items[row].place)
            if progress:
                progress(row + 1, len(items))
    refuse(problems)
    images.flush()
    masks.flush()
    notes = [*depths, *inverted(odd)]
    if copies := repeated(items, place.parent):
        first = "{} is {}".format(*copies[0])
        notes.insert(0, f"{len(copies)} test images are training images, first: {first}; the scores are flattered")
    if lost:
        notes.append(f"{len(lost)} defects are too small to leave a pixel of their mask at {size} px, first: {lost[0]}")
    about = {"images": len(items), "size": size, "notes": notes}
    about |= {"crc32": {name: _crc32(temporary / name) for name in PIXELS}}
    write_json(temporary / "complete.json", about)
    temporary.replace(place)
    return about


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:  # a full disk under a memory map kills the process without a word
        raise BadInput(
            f"The cache folder {folder} has {free / 1e9:.1f} GB free and the decoded images take "
            f"{needed / 1e9:.1f} GB: choose another one."
        )


def _windowed(pool: ThreadPoolExecutor, items: Sequence[Item], size: int):
    """Results in order, a few hundred decoded images ahead at most: they would not all fit into memory."""
    for start in range(0, len(items), 256):
        yield from pool.map(lambda item: pixels_of_item(item, size), items[start : start + 256])


def pixels_of_item(item: Item, size: int) -> tuple[np.ndarray, np.ndarray] | str:
    """Image and mask of one item from its reader's decoder or the common one, or what is wrong with them."""
    try:
        return getattr(item.reader, "decode", decode)(item.sample, size)
    except BadInput as problem:
        return str(problem)


def with_bits(items: Sequence[Item]) -> tuple[list[Item], list[str]]:
    """The items with the true depth of 16-bit files, which each class has in common, and a line on each such class."""
    files, notes = defaultdict(list), []
    for item in items:
        if isinstance(item.sample.image, Path) and item.sample.image.suffix.lower() in (".png", ".tif", ".tiff"):
            files[item.sample.category].append(item.sample.image)
    depth = {category: pixels.bits(paths) for category, paths in files.items()}
    for category, bits in depth.items():
        if bits < 16:
            notes.append(f"{category}: its 16-bit files hold {bits} bits: {2**bits - 1} is taken for white")
    bits_of = {category: bits for category, bits in depth.items() if bits < 16}
    return [
        item._replace(sample=replace(item.sample, bits=bits_of.get(item.sample.category, 16))) for item in items
    ], notes


def looks_inverted(mask: np.ndarray) -> bool:
    """Whether a mask (H, W) covers more than half of its image and the whole border, and yet not everything."""
    border = (mask[0], mask[-1], mask[:, 0], mask[:, -1])
    return bool(mask.mean() > 0.5 and not mask.all() and all(side.all() for side in border))


def inverted(odd: Sequence[Item]) -> list[str]:
    """A line on each class with masks that look inverted."""
    count = Counter(item.sample.category for item in odd)
    first = {item.sample.category: item.place for item in reversed(odd)}
    return [
        f"{category}: {number} masks cover their whole image but for an island, first: that of {first[category]}; if "
        "black is the defect, say so with the reader's option `masks: inverted`"
        for category, number in count.items()
    ]


def is_unmasked(item: Item) -> bool:
    """Whether an image has defects, and nobody knows where."""
    reader = getattr(item.reader, "reader", item.reader)  # of a drifting class, what is drawn on
    return bool(item.sample.label) and not item.sample.masks and not hasattr(reader, "decode")


def complete_pixels(place: Path, images: int, size: int) -> dict | None:
    """What is known of the pixels in `place`; None unless they are whole: what is damaged is decoded anew."""
    about = read_json(place / "complete.json")  # written last
    try:
        fits = about and (about["images"], about["size"]) == (images, size)
        return about if fits and about["crc32"] == {name: _crc32(place / name) for name in PIXELS} else None
    except (OSError, KeyError):
        return None


def _crc32(path: Path) -> int:
    """Of a file; some 0.2 s per GB that the page cache holds, which is less than its first pass over the images."""
    total = 0
    with path.open("rb") as file:
        while part := file.read(2**20):
            total = zlib.crc32(part, total)
    return total
