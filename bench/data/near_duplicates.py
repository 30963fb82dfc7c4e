"""Test images that show what a training image shows, though their files differ: re-encoded, brightened, resized."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from bench.data.sample import Item

SIDE = 32  # px at which images are compared
CLOSER = 0.25  # a twin is nearer than this share of the median distance of training images to their nearest ones


def twins(items: Sequence[Item], images: Mapping[int, np.ndarray]) -> list[tuple[str, str]]:
    """(place of a test image, place of the training image of its class that it repeats).

    `images` maps positions in `items` to uint8 (SIDE, SIDE, 3). Images of one rigid product are alike, so nearness
    alone says nothing: it is judged against how near the training images of the class are to one another. Classes
    with fewer than three training images are left out, for they have no such measure.
    """
    classes, found = defaultdict(lambda: {"train": [], "test": []}), []
    for index in sorted(images):
        classes[items[index].sample.category][items[index].sample.split].append(index)
    for split in classes.values():
        train, test = split["train"], split["test"]
        if len(train) > 2 and test:
            # Grey levels (n, pixels), each image of mean 0 and standard deviation 1: light and contrast drop out.
            grey = np.stack([images[index] for index in (*train, *test)]).astype(np.float32).mean(axis=3)
            grey = grey.reshape(len(grey), -1)
            grey -= grey.mean(axis=1, keepdims=True)
            known, asked = np.split(grey / np.maximum(grey.std(axis=1, keepdims=True), 1e-6), [len(train)])
            usual = np.median(_nearest(known, known, itself=False)[1])
            place, distance = _nearest(asked, known)
            close = np.flatnonzero(distance < CLOSER * usual)
            found += [(items[test[i]].place, items[train[place[i]]].place) for i in close]
    return found


def _nearest(asked: np.ndarray, known: np.ndarray, itself: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Position and mean absolute difference of the nearest of `known` (m, pixels) for each of `asked` (n, pixels)."""
    from scipy.spatial.distance import cdist

    distance = cdist(asked, known, "cityblock") / asked.shape[1]
    if not itself:
        np.fill_diagonal(distance, np.inf)
    return distance.argmin(axis=1), distance.min(axis=1)
