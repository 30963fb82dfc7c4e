"""Random changes of masks before a replay, and of images with their masks while a class is learned.

Masks are (1, H, W) floats, 1 on the item; images (3, H, W) in 0..1. Draws come from the generator given.
"""

import math

import numpy as np
import torch
from scipy import ndimage
from torch import Generator, Tensor
from torchvision.transforms.v2.functional import InterpolationMode, affine, rotate

from bench.api import BadInput

MASKS = "none, rotate, six, piece, piece:rotate, small:DEGREES:SHARE or small:DEGREES:SHARE:flip"
IMAGES = "none, turn, six or rotate"
STRIP = 20 / 256  # of the width: the strips along the border whose colour fills the corners of a turned image


def jittered(mask: Tensor, kind: str, generator: Generator) -> Tensor:
    """The mask under a change of `kind`: one of `MASKS`.

    Raises:
        BadInput: for any other.
    """
    name, *rest = kind.split(":")
    if kind == "none":
        return mask
    if kind == "rotate":
        return rotate(mask, _whole(0, 360, generator))
    if kind == "six":
        return _six(mask, _whole(0, 5, generator))
    if name == "piece" and rest in ([], ["rotate"]):
        return _piece(mask, bool(rest), generator)
    if name == "small" and len(rest) in (2, 3) and rest[2:] in ([], ["flip"]):
        return _small(mask, float(rest[0]), float(rest[1]), len(rest) == 3, generator)
    raise BadInput(f"replaycad.jitter={kind}: give {MASKS}.")


def augmented(image: Tensor, mask: Tensor, kind: str, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
    """Image and mask under the same change of `kind`: one of `IMAGES`.

    Raises:
        BadInput: for any other.
    """
    if kind == "none":
        return image, mask
    if kind == "turn":
        turns = 2 * _whole(0, 1, generator)
        return image.rot90(turns, (1, 2)), mask.rot90(turns, (1, 2))
    if kind == "six":
        which = _whole(0, 5, generator)
        return _six(image, which), _six(mask, which)
    if kind == "rotate":
        angle = _whole(0, 360, generator)
        return rotate(image, angle, InterpolationMode.BILINEAR, fill=_border(image)), rotate(mask, angle)
    raise BadInput(f"replaycad.augment={kind}: give {IMAGES}.")


def _six(picture: Tensor, which: int) -> Tensor:
    """As it is, three quarter turns, and the two flips."""
    return picture.rot90(which, (1, 2)) if which < 4 else picture.flip(which - 3)


def _small(mask: Tensor, degrees: float, share: float, flip: bool, generator: Generator) -> Tensor:
    """Perhaps half a turn, then a slight one, then a shift in one of four directions."""
    if flip and _whole(0, 1, generator):
        mask = mask.rot90(2, (1, 2))
    angle = degrees * (2 * torch.rand((), generator=generator).item() - 1)
    far, way = _whole(0, int(share * mask.shape[-1]), generator), _whole(0, 3, generator)
    shift = [round(far * math.cos(way * math.pi / 2)), round(far * math.sin(way * math.pi / 2))]
    return affine(mask, angle, shift, 1.0, [0.0, 0.0])


def _piece(mask: Tensor, turn: bool, generator: Generator) -> Tensor:
    """One of the things in the mask moved by up to 20 px (at 256) each way, and perhaps turned by up to 10 degrees."""
    parts, count = ndimage.label(mask[0].numpy() > 0.5)
    if not count:
        return mask
    chosen = torch.from_numpy((parts == _whole(1, count, generator)).astype(np.float32))[None]
    reach = round(20 / 256 * mask.shape[-1])
    shift = [_whole(-reach, reach, generator), _whole(-reach, reach, generator)]
    angle = float(_whole(-10, 10, generator)) if turn else 0.0
    return torch.maximum(mask - chosen, affine(chosen, angle, shift, 1.0, [0.0, 0.0]))


def _border(image: Tensor) -> list[float]:
    """Mean colour of the four strips along the border."""
    wide = max(1, round(STRIP * image.shape[-1]))
    strips = [image[:, :wide], image[:, -wide:], image[:, :, :wide].mT, image[:, :, -wide:].mT]
    return torch.cat(strips, 1).mean((1, 2)).tolist()


def _whole(low: int, high: int, generator: Generator | None) -> int:
    """A whole number from `low` to `high`, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator))
