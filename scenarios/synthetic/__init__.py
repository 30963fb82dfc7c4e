"""Procedural textures and objects with five kinds of defect, rendered on the fly."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.data import Sample
from bench.errors import BadInput

from ._defects import KINDS
from ._render import CLASSES, Key, render

NEEDS = "nothing"
VERSION = 1  # raise it whenever a pixel changes: it enters the data fingerprint
OPTIONS = {"train": 48, "good": 24, "anomalous": 24, "difficulty": 0.3, "seed": 0}


def samples(root: Path | None, categories: Sequence[str], options: dict) -> list[Sample]:
    """The samples of the classes, keys in place of paths; kinds of defect take turns.

    Options: `train`, `good`, `anomalous` images per class; `difficulty` 0 (plain to see) to 1; `seed`.
    Raises BadInput on an unknown class or option, or a value out of range.
    """
    options = _checked(options)
    unknown = [name for name in categories if name not in CLASSES]
    if unknown:
        raise BadInput(f"the synthetic stream has no class {unknown[0]!r}; it has {', '.join(CLASSES)}")
    found = []
    for category in categories:
        found += [_sample(category, "train", "good", i, options) for i in range(options["train"])]
        found += [_sample(category, "test", "good", i, options) for i in range(options["good"])]
        kinds = [list(KINDS)[i % len(KINDS)] for i in range(options["anomalous"])]
        found += [_sample(category, "test", kind, i, options) for i, kind in enumerate(kinds)]
    return found


def decode(sample: Sample, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Image (size, size, 3) uint8 and mask (size, size) bool of a sample."""
    image, _, mask = render(Key.parse(str(sample.image)), size)
    return image, mask


def _sample(category: str, split: str, kind: str, index: int, options: dict) -> Sample:
    key = Key(category, split, kind, index, options["seed"], options["difficulty"])
    return Sample(category, split, str(key), None, int(kind != "good"), kind)


def _checked(options: dict) -> dict:
    for name in options:
        if name not in OPTIONS:
            raise BadInput(f"the synthetic stream has no option {name!r}; it has {', '.join(OPTIONS)}")
    options = OPTIONS | options
    for name in ("train", "good", "anomalous", "seed"):
        if not isinstance(options[name], int) or options[name] < 0:
            raise BadInput(f"synthetic option {name}={options[name]!r} must be a whole number, 0 or more")
    if not isinstance(options["difficulty"], int | float) or not 0 <= options["difficulty"] <= 1:
        raise BadInput(f"synthetic option difficulty={options['difficulty']!r} must lie between 0 and 1")
    return options
