"""The decoded pixels of a stream, memory-mapped: every image is decoded once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench.data import pixels
from bench.data.decoding import Progress, complete_pixels, decode_all, is_unmasked
from bench.data.fingerprint import fingerprint
from bench.data.listing import listing
from bench.errors import BadInput
from bench.schema.disk import locked
from bench.schema.stream import Stream


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
    about = complete_pixels(place, len(items), size)
    if not about:
        with locked(Path(f"{place}.lock")):
            about = complete_pixels(place, len(items), size)  # another process may have built it while this one waited
            about = about or decode_all(items, size, place, progress)
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
        unmasked=np.array([is_unmasked(item) for item in items]),
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


def writable(cache: Path) -> Path:
    """The cache folder, made if need be; raises BadInput if nothing can be written there."""
    cache = Path(cache).expanduser()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        (cache / ".writable").touch()
    except OSError as error:
        raise BadInput(f"The cache folder {cache} cannot be written ({error.strerror}): choose another one.") from error
    return cache
