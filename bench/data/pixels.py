"""Decoding: an image file to RGB and its mask to booleans, at the size of the scenario."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from bench.errors import BadInput

if TYPE_CHECKING:
    from bench.data.sample import Sample

VERSION = 1  # part of the cache key: raise it whenever the same file would give other pixels
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)


def decode(sample: Sample, size: int) -> tuple[np.ndarray, np.ndarray]:
    """One sample as uint8 (size, size, 3) and bool (size, size).

    Image: grey, palette and CMYK become RGB; 16 bits are scaled from their full range (65535 -> 255), never clipped
    and never stretched per image; alpha is dropped, so the colour stored under it stays; EXIF orientation is not
    applied, since masks are drawn on the stored pixels. Bilinear with antialiasing, no crop.
    Mask: the largest of the colour channels; above half if its maximum is full white (255, or 65535 in 16 bits), so
    soft edges are cut at one half, and above 0 otherwise, so 0/1 and 0/1/2 masks count. Nearest neighbour.
    Raises BadInput for a file that does not decode, a mask of another size, and an absent or empty mask of an anomaly.
    """
    picture = _open(Path(sample.image), "image")
    try:
        image = np.asarray(_rgb(picture).resize((size, size), Image.Resampling.BILINEAR))
    except UNREADABLE as error:
        raise BadInput(
            f"The image {sample.image} cannot be turned into RGB ({error}): save it as 8-bit RGB."
        ) from error
    return image, _mask(sample, picture.size, size)


def _mask(sample: Sample, image_size: tuple[int, int], size: int) -> np.ndarray:
    if sample.mask is None:
        if sample.label:
            raise BadInput(f"The anomalous image {sample.image} has no mask: add it, or take the image out.")
        return np.zeros((size, size), dtype=bool)
    picture = _open(sample.mask, "mask")
    if picture.size != image_size:
        theirs, ours = "x".join(map(str, picture.size)), "x".join(map(str, image_size))
        raise BadInput(f"The mask {sample.mask} is {theirs} and its image {ours}: they must be of one size.")
    mask = _binary(picture)
    if sample.label and not mask.any():
        raise BadInput(f"The mask {sample.mask} is empty and its image counts as anomalous: correct one of them.")
    small = Image.fromarray(mask.astype(np.uint8)).resize((size, size), Image.Resampling.NEAREST)
    return np.asarray(small).astype(bool)


def _open(path: Path, what: str) -> Image.Image:
    try:
        with Image.open(path) as picture:
            picture.load()
            return picture
    except UNREADABLE as error:
        raise BadInput(f"The {what} {path} is cut short or corrupt ({error}): replace the file.") from error


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode in ("P", "PA"):
        return picture.convert("RGBA").convert("RGB")  # straight to RGB, Pillow warns of a palette with transparency
    if picture.mode == "F":
        raise ValueError("32-bit floats have no agreed range")
    if picture.mode[0] != "I":
        return picture.convert("RGB")
    deep = np.asarray(picture).astype(np.int64)
    if deep.min() < 0 or deep.max() > 65535:
        raise ValueError("whole numbers beyond 16 bits have no agreed range")
    return Image.fromarray(((deep + 128) // 257).astype(np.uint8)).convert("RGB")


def _binary(picture: Image.Image) -> np.ndarray:
    deep = picture.mode[0] in "IF"
    grey = np.asarray(picture) if deep else np.asarray(_rgb(picture)).max(axis=2)
    white = {255: 127, 65535: 32767}
    return grey > white.get(int(grey.max()), 0)
