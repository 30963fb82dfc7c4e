"""InvAD's fuser and generator, which take after StyleMapGAN (Kim et al., arXiv:2104.14754)."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import Bottleneck

from bench.api import BadInput
from methods.detectors.invad.layers import Activation, EqualConv, UpConv, conv


class Fuser(nn.Module):
    """Feature maps [(B, C_i, H/s_i, W/s_i)], s_i doubling, to as many style maps (B, `style`, ...), deepest first."""

    def __init__(self, channels: Sequence[int], strides: Sequence[int], style: int):
        super().__init__()
        if any(b != 2 * a for a, b in pairwise(strides)):
            raise BadInput(f"invad needs strides that double, not {tuple(strides)}; for example 4, 8 and 16.")
        shrink = [strides[-1] // stride for stride in strides]
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, c, k, k), nn.BatchNorm2d(c)) for c, k in zip(channels, shrink, strict=True)
        )
        self.fuse = nn.Sequential(
            nn.Conv2d(sum(channels), style, 1, bias=False),
            nn.BatchNorm2d(style),
            nn.ReLU(),
            Bottleneck(style, style // Bottleneck.expansion),
        )
        growing = [_growing(style) for _ in channels[1:]]
        self.stages = nn.ModuleList([nn.Sequential(conv(style, style), conv(style, style)), *growing])

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        code = self.fuse(torch.cat([down(f) for down, f in zip(self.down, features, strict=True)], 1))
        styles = []
        for stage in self.stages:
            code = stage(code)
            styles.append(code)
        return styles


def _growing(style: int) -> nn.Sequential:
    return nn.Sequential(UpConv(style, style, 3, rate=0.01), Activation(style), conv(style, style))


class Generator(nn.Module):
    """Style maps, deepest first, to feature maps [(B, C_i, H/s_i, W/s_i)], shallowest first as the encoder's."""

    def __init__(self, channels: Sequence[int], grid: int, style: int, modulation: int):
        super().__init__()
        deepest = channels[-1]
        self.constant = nn.Parameter(torch.randn(1, deepest, grid, grid))
        self.first = conv(deepest, deepest)
        self.modulations = nn.ModuleList(nn.Sequential(conv(style, style), conv(style, modulation)) for _ in channels)
        levels, before = [], deepest
        for i, width in enumerate(reversed(channels)):
            entry = StyledBlock(before, width, modulation, grow=i > 0)
            levels.append(nn.ModuleList([entry, StyledBlock(width, width, modulation)]))
            before = width
        self.levels = nn.ModuleList(levels)

    def forward(self, styles: Sequence[Tensor]) -> list[Tensor]:
        made = self.first(self.constant.expand(len(styles[0]), -1, -1, -1))
        restored = []
        for level, modulate, style in zip(self.levels, self.modulations, styles, strict=True):
            modulation = modulate(style)
            for block in level:
                made = block(made, modulation)
            restored.append(made)
        return restored[::-1]


class StyledBlock(nn.Module):
    """Two styled convolutions beside a linear 1x1; where it doubles the resolution, the first is not modulated."""

    def __init__(self, a: int, b: int, modulation: int, grow: bool = False):
        super().__init__()
        self.one = StyledConv(a, b, 0 if grow else modulation, grow)
        self.two = StyledConv(b, b, modulation)
        self.skip = UpConv(a, b, 1) if grow else EqualConv(a, b, 1, bias=False)

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        return (self.two(self.one(x, modulation), modulation) + self.skip(x)) / 2**0.5


class StyledConv(nn.Module):
    """Each image's map brought to mean 0, deviation 1; scaled and shifted place by place; convolved and activated."""

    def __init__(self, a: int, b: int, modulation: int, grow: bool = False):
        super().__init__()
        self.scale = EqualConv(modulation, a, 3, start=1.0) if modulation else None
        self.shift = EqualConv(modulation, a, 3) if modulation else None
        self.conv = UpConv(a, b, 3) if grow else EqualConv(a, b, 3, bias=False)
        self.activation = Activation(b)

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        x = F.layer_norm(x, x.shape[1:])
        if self.scale is not None:
            x = x * self.scale(modulation) + self.shift(modulation)
        return self.activation(self.conv(x))
