"""Decoding: an image file to RGB and its mask to booleans, at the size of the scenario."""

from __future__ import annotations

import contextlib
import struct
import threading
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from bench.errors import BadInput

if TYPE_CHECKING:
    from bench.data.sample import Sample

VERSION = 2  # part of the cache key: raise it whenever the same file would give other pixels
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
BIT_DEPTHS = (8, 10, 12, 14, 16)  # of sensors whose values lie in 16-bit files
INDICES = 32  # a lossless mask with no value above this one holds the numbers of defects or of their types
ORIENTATION = 0x0112  # EXIF tag

# Line cameras deliver hundreds of megapixels; Pillow's own bound is meant for images that strangers upload.
Image.MAX_IMAGE_PIXELS = 2**30
LARGE = 50_000_000  # pixels; such images are decoded one at a time, for each takes some 100 MB and more
_one_large_image = threading.Lock()


def decode(sample: Sample, size: int) -> tuple[np.ndarray, np.ndarray]:
    """One sample as uint8 (size, size, 3) and bool (size, size).

    Image: upright as its EXIF orientation says; grey, palette and CMYK become RGB; 16-bit files are scaled from the
    range of `sample.bits` (4095 -> 255 with 12), never stretched per image; alpha is dropped, so the colour stored
    under it stays. Bilinear with antialiasing, no crop.
    Mask: see `mask`. Nearest neighbour. All False for a normal image, and where no mask is known.
    Raises BadInput for a file that does not decode, a mask of another size, and an empty mask of an anomaly.
    """
    path = Path(sample.image)
    with _one_large_image if _is_large(path) else contextlib.nullcontext():
        picture = _open(path, "image")
        form = _form(picture)
        try:
            shown = _upright(picture)
            if shown.mode != "L":  # grey is resized as grey: a third of the memory for a large scan
                shown = _rgb(shown, sample.bits)
            image = np.asarray(shown.resize((size, size), Image.Resampling.BILINEAR).convert("RGB"))
        except UNREADABLE as error:
            raise BadInput(f"The image {path} cannot be turned into RGB ({error}): save it as 8-bit RGB.") from error
        del picture, shown
        if not sample.masks:
            return image, np.zeros((size, size), dtype=bool)
        small = Image.fromarray(_united(sample, form).astype(np.uint8)).resize((size, size), Image.Resampling.NEAREST)
    return image, np.asarray(small).astype(bool)


def mask(sample: Sample) -> np.ndarray:
    """The mask of a sample at the size of its image, bool (H, W), True on defects; several files are united.

    A pixel is a defect above half of the mask's own maximum, so soft edges are cut there, whatever white is. Masks of
    few small numbers (0/1, 0/1/2) and of colours from a palette count wherever they are not 0, or not black; a mask
    that is drawn in the alpha channel alone is taken from there. A mask drawn on the pixels as they are stored is
    turned like its image.
    Raises BadInput for a file that does not decode, for another size, and for a mask without a defect.
    """
    return _united(sample, _form(_open(Path(sample.image), "image")))


def turned(path: Path) -> bool:
    """Whether the EXIF orientation of an image file says that it is not to be shown as it is stored."""
    try:
        with Image.open(path) as picture:
            return picture.getexif().get(ORIENTATION, 1) != 1
    except UNREADABLE:
        return False


def bits(paths: Iterable[Path]) -> int:
    """How many bits the values of 16-bit image files fill: 8, 10, 12, 14 or 16; 16 too where there are none.

    The files are those of one camera: depth is a property of a class, and one dark image says nothing about it.
    """
    greatest = max((value for value in map(_greatest_if_deep, paths) if value is not None), default=65535)
    return next((depth for depth in BIT_DEPTHS if greatest < 2**depth), 16)


def _greatest_if_deep(path: Path) -> int | None:
    """The greatest value in a 16-bit file; None for any other."""
    try:
        with Image.open(path) as picture:
            deep = picture.mode[0] == "I" or _is_deep_colour(path)
    except UNREADABLE:
        deep = path.suffix.lower() in (".tif", ".tiff") and _is_deep_colour(path)
    try:
        return int(np.asarray(_open(path, "image")).max()) if deep else None
    except BadInput:
        return 0  # told when it is decoded


class _DeepColour(NamedTuple):
    """16-bit colour, which Pillow has no mode for: it keeps the upper eight bits without a word."""

    array: np.ndarray  # (H, W, 3) uint16
    mode: str = "I;16 three times"
    format: str | None = None

    @property
    def size(self) -> tuple[int, int]:
        return self.array.shape[1], self.array.shape[0]

    def __array__(self, dtype=None, copy=None):
        return self.array if dtype is None else self.array.astype(dtype)


class _Form(NamedTuple):
    """What a mask has to fit: the size of the stored pixels of its image, and how they are turned to be upright."""

    size: tuple[int, int]
    orientation: int

    @property
    def upright(self) -> tuple[int, int]:
        return self.size[::-1] if self.orientation >= 5 else self.size


def _form(picture: Image.Image | _DeepColour) -> _Form:
    return _Form(picture.size, 1 if isinstance(picture, _DeepColour) else picture.getexif().get(ORIENTATION, 1))


def _is_large(path: Path) -> bool:
    try:
        with Image.open(path) as picture:
            return picture.width * picture.height > LARGE
    except UNREADABLE:
        return False


def _is_deep_colour(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(26)
    if head[:8] == b"\x89PNG\r\n\x1a\n":
        return head[24:26] in (b"\x10\x02", b"\x10\x04", b"\x10\x06")  # 16 bits of RGB, grey with alpha, RGBA
    if head[:4] not in (b"II*\0", b"MM\0*"):
        return False
    from PIL import TiffTags
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    with path.open("rb") as file:
        directory = ImageFileDirectory_v2(file.read(8))
        file.seek(directory.next)
        directory.load(file)
        tags = {TiffTags.lookup(tag).name: value for tag, value in directory.items()}
    return np.max(tags.get("BitsPerSample", 1)) == 16 and tags.get("SamplesPerPixel", 1) > 2


def _open(path: Path, what: str) -> Image.Image:
    try:
        if _is_deep_colour(path):
            import cv2

            array = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
            if array is None or array.dtype != np.uint16:
                raise ValueError("16-bit colour that OpenCV does not read")
            return _DeepColour(np.ascontiguousarray(array[..., 2::-1]))  # BGR, and alpha behind it
        with Image.open(path) as picture:
            picture.load()
            return picture
    except Image.DecompressionBombError as error:
        raise BadInput(f"The {what} {path} has more than two thousand megapixels: cut it into parts.") from error
    except UNREADABLE as error:
        if path.is_symlink() and not path.exists():
            raise BadInput(f"The {what} {path} is a link to a file that is not there: mend the link.") from error
        raise BadInput(f"The {what} {path} {_what_it_is(path)} ({error}): replace the file.") from error


def _what_it_is(path: Path) -> str:
    try:
        with path.open("rb") as file:
            head = file.read(512).lstrip().lower()
    except OSError:
        return "cannot be read"
    if not head:
        return "is cut short or corrupt: it is empty"
    if head.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS and no image: run `git lfs pull` where it came from"
    if head.startswith((b"<!doctype html", b"<html")):
        return "is a web page and no image"
    return "is cut short or corrupt"


def _upright(picture: Image.Image) -> Image.Image:
    if isinstance(picture, _DeepColour) or picture.getexif().get(ORIENTATION, 1) == 1:
        return picture
    return ImageOps.exif_transpose(picture)


def _rgb(picture: Image.Image, depth: int = 16) -> Image.Image:
    if picture.mode in ("P", "PA"):
        return picture.convert("RGBA").convert("RGB")  # straight to RGB, Pillow warns of a palette with transparency
    if picture.mode == "F":
        raise ValueError("32-bit floats have no agreed range")
    if picture.mode[0] != "I":
        return picture.convert("RGB")
    deep, top = np.asarray(picture).astype(np.int64), 2**depth - 1
    if deep.min() < 0 or deep.max() > 65535:
        raise ValueError("whole numbers beyond 16 bits have no agreed range")
    return Image.fromarray(((deep * 255 + top // 2) // top).clip(max=255).astype(np.uint8)).convert("RGB")


def _united(sample: Sample, form: _Form) -> np.ndarray:
    found = []
    for path in sample.masks:
        picture = _open(path, "mask")
        lossy = picture.format == "JPEG"
        if picture.size == form.size != form.upright and not turned(path):  # drawn on the stored pixels
            picture.getexif()[ORIENTATION] = form.orientation
        picture = _upright(picture)
        if picture.size != form.upright:
            theirs, ours = ("x".join(map(str, each)) for each in (picture.size, form.upright))
            raise BadInput(f"The mask {path} is {theirs} and its image {ours}: they must be of one size.")
        grey = _grey(picture)
        if sample.inverted:
            grey = grey.max() - grey
        found.append(grey > _threshold(picture, grey, lossy))
        if sample.label and not found[-1].any():
            raise BadInput(f"The mask {path} is empty and its image counts as anomalous: correct one of them.")
    return np.logical_or.reduce(found)


def _grey(picture: Image.Image) -> np.ndarray:
    """(H, W) what a mask says: its values, its brightest channel, or its alpha where no colour says anything."""
    if picture.mode[0] in "IF":
        values = np.asarray(picture)
        return values.max(axis=2) if values.ndim == 3 else values
    grey = np.asarray(_rgb(picture)).max(axis=2)
    if grey.min() == grey.max() and (picture.mode in ("LA", "RGBA", "PA") or "transparency" in picture.info):
        return np.asarray(picture.convert("RGBA").getchannel("A"))
    return grey


def _threshold(picture: Image.Image | _DeepColour, grey: np.ndarray, lossy: bool) -> float:
    if lossy:
        return max(float(grey.max()) / 2, INDICES)  # a JPEG of black has values of 1 to 3 here and there
    colours = (picture.convert("RGB").getcolors(256) or []) if picture.mode == "P" else []
    if grey.max() <= INDICES or any(len(set(colour)) > 1 for _, colour in colours):
        return 0
    return float(grey.max()) / 2
