"""The decoded pixels of a stream, memory-mapped: every image is decoded once."""

from __future__ import annotations

import shutil
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from bench.data import pixels
from bench.data.fingerprint import fingerprint, read_json, repeated, workers, write_json
from bench.data.listing import listing, refuse
from bench.data.pixels import decode
from bench.data.sample import Item
from bench.errors import BadInput
from bench.schema.disk import locked
from bench.schema.stream import Stream

Progress = Callable[[int, int], None]  # called with (images done, images in all)
PIXELS = ("images.npy", "masks.npy")  # of a folder of the cache


@dataclass(frozen=True)
class Arrays:
    """All images of a stream, in an order that does not depend on the order of its steps; pixels are read-only."""

    images: np.ndarray  # (N, S, S, 3) uint8, memory-mapped
    masks: np.ndarray  # (N, S, S) bool, memory-mapped, True on defects
    labels: np.ndarray  # (N,) int64, 0 normal, 1 anomalous
    categories: np.ndarray  # (N,) int64, index into stream.classes
    train: np.ndarray  # (N,) bool, what methods train on
    notes: tuple[str, ...] = ()  # what the folders were taken for, and what is odd, and no error
    odd: tuple[str, ...] = ()  # those of the notes that decoding gave: they bear on the numbers
    unmasked: np.ndarray | None = None  # (N,) bool, anomalous images of which nobody knows where; None: there are none
    held_out: np.ndarray | None = None  # (N,) bool, normal images of the training set that no method sees in training

    def counts(self, classes: Sequence[str]) -> dict[str, tuple[int, int]]:
        """{class: (training images, test images)}."""
        train, test = (np.bincount(self.categories[rows], minlength=len(classes)) for rows in (self.train, ~self.train))
        return {name: (int(train[c]), int(test[c])) for c, name in enumerate(classes)}


def load_arrays(
    stream: Stream,
    root: Path | None,
    size: int,
    cache: Path,
    progress: Progress | None = None,
    plugins: Iterable[Path] = (),
    holdout: float = 0.0,
) -> tuple[Arrays, str]:
    """Decode every image of a stream once, and map the result into memory: (arrays, fingerprint of the data).

    The pixels are kept in `cache` by fingerprint, size and version of the decoding. Several processes may call this
    at once, and a killed one leaves nothing that another would take for finished.
    `plugins` are files that may hold the reader. `holdout` is the share of the training images of each class that no
    method trains on, see `hold_out`.
    Raises BadInput for whatever is wrong with the data, after looking at all of them.
    """
    root, cache = Path(root).expanduser() if root else None, writable(cache)
    notes = []
    items = listing(stream, root, plugins, notes)
    identity = fingerprint(items, cache)
    place = cache / f"{identity[:16]}-{size}px-v{pixels.VERSION}"
    about = _complete(place, len(items), size)
    if not about:
        with locked(Path(f"{place}.lock")):
            about = _complete(place, len(items), size)  # another process may have built it while this one waited
            about = about or _build(items, size, place, progress)
    samples = [item.sample for item in items]
    column = {name: index for index, name in enumerate(stream.classes)}
    arrays = Arrays(
        images=np.load(place / "images.npy", mmap_mode="r"),
        masks=np.load(place / "masks.npy", mmap_mode="r"),
        labels=np.array([sample.label for sample in samples]),
        categories=np.array([column[sample.category] for sample in samples]),
        train=np.array([sample.split == "train" for sample in samples]),
        notes=(*notes, *about["notes"]),
        odd=tuple(about["notes"]),
        unmasked=np.array([_is_unmasked(item) for item in items]),
    )
    return hold_out(arrays, holdout, identity), identity


def hold_out(arrays: Arrays, share: float, identity: str) -> Arrays:
    """Take `share` of the training images of each class out of training, for thresholds to be set on.

    At least one, and at least one stays. Which ones hangs on the data alone (their fingerprint `identity`), so they are
    the same for every method, seed and order of the classes. They are normal images: test images stay what they were.

    Raises:
        BadInput: where a class has a single training image.
    """
    held = np.zeros(len(arrays.train), bool)
    if share:
        for column in np.unique(arrays.categories):
            rows = rows_of(arrays, [column], train=True)
            if len(rows) < 2:
                raise BadInput("A class has a single training image, so none can be held out: run with --holdout 0.")
            # The place of a class among all images tells one from another, and is the same in every order of the stream
            draw = np.random.default_rng([int(identity[:16], 16), int(rows[0])])
            count = min(max(round(share * len(rows)), 1), len(rows) - 1)
            held[draw.permutation(rows)[:count]] = True
    return replace(arrays, train=arrays.train & ~held, held_out=held)


def load_known(stream: Stream, size: int, fingerprint: str, options) -> tuple[Arrays, str]:
    """The data with this fingerprint, or with one that begins so, and the whole of it.

    Raises:
        BadInput: if those that the command line gives are others.
    """
    root = options.data and Path(options.data)
    arrays, here = load_arrays(stream, root, size, options.cache, plugins=options.plugin)
    if not here.startswith(fingerprint):
        raise BadInput(
            f"the scores are of data with the fingerprint {fingerprint[:16]}, and those here have {here[:16]}: "
            "give the same data with --data."
        )
    return arrays, here


def rows_of(arrays: Arrays, columns: list[int], *, train: bool) -> np.ndarray:
    """Rows of `arrays` that belong to the classes `columns`, of the training or of the test set."""
    wanted = np.asarray(arrays.train) if train else ~np.asarray(arrays.train)
    if not train and arrays.held_out is not None:
        wanted = wanted & ~arrays.held_out
    return np.flatnonzero(np.isin(arrays.categories, columns) & wanted)


def held_out_rows(arrays: Arrays, columns: list[int]) -> np.ndarray:
    """Rows of the normal images of the classes `columns` that no method trains on."""
    held = np.zeros(len(arrays.train), bool) if arrays.held_out is None else arrays.held_out
    return np.flatnonzero(np.isin(arrays.categories, columns) & held)


def pixels_of_item(item: Item, size: int) -> tuple[np.ndarray, np.ndarray] | str:
    """Image and mask of one item from its reader's decoder or the common one, or what is wrong with them."""
    try:
        return getattr(item.reader, "decode", decode)(item.sample, size)
    except BadInput as problem:
        return str(problem)


def _build(items: Sequence[Item], size: int, place: Path, progress: Progress | None) -> dict:
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
                elif items[row].sample.label and not _is_unmasked(items[row]):
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


def _is_unmasked(item: Item) -> bool:
    reader = getattr(item.reader, "reader", item.reader)  # of a drifting class, what is drawn on
    return bool(item.sample.label) and not item.sample.masks and not hasattr(reader, "decode")


def _complete(place: Path, images: int, size: int) -> dict | None:
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


def writable(cache: Path) -> Path:
    """The cache folder, made if need be; raises BadInput if nothing can be written there."""
    cache = Path(cache).expanduser()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        (cache / ".writable").touch()
    except OSError as error:
        raise BadInput(f"The cache folder {cache} cannot be written ({error.strerror}): choose another one.") from error
    return cache
