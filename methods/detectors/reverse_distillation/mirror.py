"""A bottleneck and decoder for any backbone, mirrored from the channels and strides of its features."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, cat, nn


class Mirror(nn.Module):
    """Fuses feature maps of rising stride into one narrow code and restores each of them from it.

    As in the paper (arXiv:2201.10703, section 3.3), every map is brought to half the last one's resolution by
    strided convolutions, fused, and decoded from the deepest to the shallowest.
    """

    def __init__(self, channels: Sequence[int], strides: Sequence[int]):
        super().__init__()
        deepest, width = strides[-1], channels[-1]
        self.down = nn.ModuleList(
            _halvings(c, width // 2, 2 * deepest // s) for c, s in zip(channels, strides, strict=True)
        )
        self.fuse = nn.Sequential(_conv(width // 2 * len(channels), width, 1), _conv(width, width, 3))
        steps = [2, *(deep // shallow for shallow, deep in reversed(list(pairwise(strides))))]
        widths = [width, *reversed(channels)]
        self.up = nn.ModuleList(_stage(a, b, k) for (a, b), k in zip(pairwise(widths), steps, strict=True))
        self.out = nn.ModuleList(nn.Conv2d(c, c, 1) for c in reversed(channels))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Restore each of `features` [(B, C_i, H/s_i, W/s_i)], in the same order."""
        code = self.fuse(cat([down(f) for down, f in zip(self.down, features, strict=True)], 1))
        restored = []
        for up, out in zip(self.up, self.out, strict=True):
            code = up(code)
            restored.append(out(code))
        return restored[::-1]


def _conv(a: int, b: int, kernel: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(a, b, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(b), nn.ReLU())


def _halvings(a: int, b: int, factor: int) -> nn.Sequential:
    count = factor.bit_length() - 1
    return nn.Sequential(*(_conv(a if i == 0 else b, b, 3, stride=2) for i in range(count)))


def _stage(a: int, b: int, factor: int) -> nn.Sequential:
    return nn.Sequential(nn.ConvTranspose2d(a, b, factor, factor), nn.BatchNorm2d(b), nn.ReLU(), _conv(b, b, 3))
