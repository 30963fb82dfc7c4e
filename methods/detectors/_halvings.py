"""Encoder and decoder of SCALE's auto-encoders: 4×4 convolutions that halve, and their mirror.

Dalle Pezze et al., arXiv:2212.11192, the authors' code.
"""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from methods._range import Range


def down(channels: tuple[int, ...]) -> list[nn.Module]:
    """Halvings with batch norm in all but the first and the last."""
    pairs = list(zip((3, *channels), channels, strict=False))
    return [_block(nn.Conv2d(a, b, 4, 2, 1), 0 < i < len(pairs) - 1) for i, (a, b) in enumerate(pairs)]


def up(channels: tuple[int, ...]) -> list[nn.Module]:
    """As many doublings, mirrored, without batch norm in the first; the last makes the image."""
    narrowing = list(reversed(channels))
    blocks = [_block(nn.ConvTranspose2d(a, b, 4, 2, 1), i > 0) for i, (a, b) in enumerate(pairwise(narrowing))]
    return [*blocks, nn.ConvTranspose2d(channels[0], 3, 4, 2, 1), nn.Tanh()]


def _block(layer: nn.Module, norm: bool) -> nn.Sequential:
    return nn.Sequential(layer, *([nn.BatchNorm2d(layer.out_channels)] if norm else []), nn.LeakyReLU(0.2))


class Frame(nn.Module):
    """Images of `pixels` px in 0..1 to what `halvings` halvings can take, in the range of a Tanh, and back."""

    def __init__(self, pixels: int, halvings: int, imagenet_range: bool):
        super().__init__()
        self.pixels, self.grid = pixels, max(1, round(pixels / 2**halvings))
        self.side = self.grid * 2**halvings  # px; other images are resized to it
        self.range = Range(imagenet_range)

    def forward(self, image: Tensor) -> Tensor:
        return _fitted(self.range(image), self.side)

    def back(self, value: Tensor) -> Tensor:
        return _fitted(self.range.back(value), self.pixels)


def _fitted(image: Tensor, side: int) -> Tensor:
    return image if image.shape[-1] == side else F.interpolate(image, side, mode="bilinear")
