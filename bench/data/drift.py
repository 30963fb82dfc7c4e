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
from PIL import Image, ImageEnhance
from scipy.ndimage import gaussian_filter

from bench.data.pixels import decode
from bench.errors import BadInput

if TYPE_CHECKING:
    from bench.data.sample import Item, Sample

VERSION = 1  # raise it whenever a pixel changes: it enters the data fingerprint
NAME = re.compile(r"(colour|blur|geometric)-([1-9]\d*)")
SIDE = 224  # px, of the images that the geometric shifts are meant for


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


def _colour(image, mask, level: int, growing: bool, draw):
    """Brightness, contrast and saturation times one number, 1 plus or minus 5 % of the level."""
    strength = draw.uniform(0 if growing else 0.05 * (level - 1), 0.05 * level)
    factor = max(0.0, 1 + strength * draw.choice([-1, 1]))
    picture = Image.fromarray(image)
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        picture = enhance(picture).enhance(factor)
    return np.asarray(picture), mask


def _blur(image, mask, level: int, growing: bool, draw):
    """A Gaussian over 2 level - 1 px with a spread of half the level; the first level has none."""
    level = int(draw.integers(1, level + 1)) if growing else level
    blurred = gaussian_filter(image.astype(np.float32), (0.5 * level, 0.5 * level, 0), radius=(level - 1, level - 1, 0))
    return blurred.round().clip(0, 255).astype(np.uint8), mask


def _geometric(image, mask, level: int, growing: bool, draw):
    """Turn, shift, scale and shear about the centre; what comes in from outside is black and no defect."""
    angle, shear = np.radians(draw.uniform(-2 * level, 2 * level)), np.radians(draw.uniform(-level, level))
    scale, size = 1 + draw.uniform(-0.01 * level, 0.01 * level), image.shape[0]
    shift = draw.uniform(-level, level, 2) * size / SIDE
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    back = np.linalg.inv(scale * turn @ np.array([[1, np.tan(shear)], [0, 1]]))
    centre = np.full(2, size / 2)
    offset = centre - back @ (centre + shift)
    entries = (back[0, 0], back[0, 1], offset[0], back[1, 0], back[1, 1], offset[1])
    moved = [
        np.asarray(Image.fromarray(array).transform((size, size), Image.Transform.AFFINE, entries, how))
        for array, how in (
            (image, Image.Resampling.BILINEAR),
            (mask.astype(np.uint8) * 255, Image.Resampling.NEAREST),
        )
    ]
    return moved[0], moved[1] > 127


DISTORTIONS = {"colour": _colour, "blur": _blur, "geometric": _geometric}
