"""As many classes as one likes, drawn in no time: a colour and a grating each, squares as defects. For growth.py."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.data import Sample

NEEDS = "nothing"
VERSION = 1


def samples(root: Path | None, categories: Sequence[str], options: dict) -> list[Sample]:
    """`train` normal images per class, and `test` ones, every other of them with a defect."""
    found = []
    for name in categories:
        found += [Sample(name, "train", f"{name}/train/{i}/0", None, 0, "good") for i in range(options["train"])]
        for i in range(options["test"]):
            bad = i % 2
            found.append(Sample(name, "test", f"{name}/test/{i}/{bad}", None, bad, "square" if bad else "good"))
    return found


def decode(sample: Sample, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Image (size, size, 3) uint8 and mask (size, size) bool of a sample."""
    name, split, index, bad = str(sample.image).split("/")
    of_class = np.random.default_rng(int(name.removeprefix("c")))
    rng = np.random.default_rng([int(name.removeprefix("c")), split == "test", int(index)])
    colour, angle, period = of_class.uniform(60, 160, 3), of_class.uniform(0, np.pi), of_class.uniform(3, 9)
    y, x = np.mgrid[:size, :size]
    wave = np.sin((x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / period + rng.uniform(0, 6))
    image = colour + 30 * wave[..., None] + rng.normal(0, 5, (size, size, 3))
    mask = np.zeros((size, size), bool)
    if int(bad):
        top, left = rng.integers(0, size - size // 4, 2)
        mask[top : top + size // 4, left : left + size // 4] = True
        image[mask] += rng.choice([-50, 50])
    return image.clip(0, 255).astype(np.uint8), mask
