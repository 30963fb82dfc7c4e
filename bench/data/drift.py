"""Drift on one product: the images of a class again and again, more distorted at every level.

The protocol of DINOSaur's paper on magnetic tiles (Weatherly and Lin, arXiv:2605.24251), for any reader: a stream with
the option `drift: {class: NAME}` has classes called <kind>-<level>, `colour-1` to `colour-10` for instance, which are
the images of NAME under that distortion. Theirs is drawn anew whenever an image is read; here each image has one fixed
draw per level, so the test set is one. R is then step x level, and forward transfer means something.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from bench.data import distortions
from bench.data.pixels import decode
from bench.errors import BadInput

if TYPE_CHECKING:
    from bench.data.sample import Item, Sample

VERSION = 1  # raise it whenever a distortion gives another pixel: it enters the data fingerprint
NAME = re.compile(r"(colour|blur|geometric)-([1-9]\d*)")
DISTORTIONS = {
    "colour": distortions.distort_colour,
    "blur": distortions.distort_sharpness,
    "geometric": distortions.distort_geometry,
}


def product_of(options: dict) -> str | None:
    """The class that drifts, by the options of a stream; None if none does. Raises BadInput for other options of it."""
    if "drift" not in options:
        return None
    drift = options["drift"]
    if not isinstance(drift, dict) or not isinstance(drift.get("class"), str) or set(drift) - {"class", "growing"}:
        raise BadInput(
            f"The option drift is {drift!r}: give `{{class: NAME}}`, with `growing: true` if training images are drawn "
            "from all levels up to their own."
        )
    return drift["class"]


def drifting(
    items: Sequence[Item], levels: Sequence[str], prefix: str, growing: bool = False, **_: object
) -> list[Item]:
    """The items of one class once for each of `levels`, under its distortion; `prefix` is their data set's.

    Raises:
        BadInput: for a level whose name is not <kind>-<level>.
    """
    found = []
    for name in levels:
        if not NAME.fullmatch(name):
            raise BadInput(f"The drift level {name!r} is not called like colour-1, blur-2 or geometric-3.")
        for item in items:
            reader = Drifted(item.reader, name, item.place, growing and item.sample.split == "train")
            recipe = f"{item.recipe} drift {VERSION} {name}{' growing' if growing else ''}".strip()
            sample = replace(item.sample, category=prefix + name)
            found.append(item._replace(sample=sample, reader=reader, recipe=recipe))
    return found


@dataclass(frozen=True)
class Drifted:
    """Stands where a reader's module is: decodes as that does, and distorts what comes out."""

    reader: ModuleType
    level: str  # <kind>-<level>
    place: str  # of the image, which with the level decides the draw
    growing: bool  # draw from all levels up to this

    def decode(self, sample: Sample, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Image (size, size, 3) uint8 and mask (size, size) bool of a sample."""
        image, mask = getattr(self.reader, "decode", decode)(sample, size)
        kind, level = NAME.fullmatch(self.level).groups()
        digest = hashlib.sha256(f"{self.place} {self.level}".encode("utf-8", "surrogateescape")).digest()
        draw = np.random.default_rng(int.from_bytes(digest[:8], "big"))
        return DISTORTIONS[kind](image, mask, int(level), self.growing, draw)
