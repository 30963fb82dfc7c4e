"""Equalised convolutions (Karras et al., arXiv:1710.10196) and StyleGAN2's up-sampling (arXiv:1912.04958)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class EqualConv(nn.Module):
    """A convolution of unit-variance weights, scaled by 1/sqrt(fan in) at run time, padded to keep the size."""

    def __init__(self, a: int, b: int, kernel: int, *, bias: bool = True, start: float = 0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(b, a, kernel, kernel))
        self.bias = nn.Parameter(torch.full((b,), start)) if bias else None
        self.gain = 1 / math.sqrt(a * kernel**2)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.gain, self.bias, padding=self.weight.shape[-1] // 2)


class UpConv(nn.Module):
    """An equalised transposed convolution of stride 2 and a blur: (B, a, H, W) to (B, b, 2H, 2W), without bias.

    `rate` divides the weights and multiplies what they do: steps of the optimizer count for as much less.
    """

    def __init__(self, a: int, b: int, kernel: int, *, rate: float = 1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(b, a, kernel, kernel) / rate)
        self.gain = rate / math.sqrt(a * kernel**2)
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
        self.register_buffer("blur", torch.outer(taps, taps) / 16, persistent=False)  # sums to 4 = 2 x 2 places
        spare = 3 - kernel  # the transposed convolution gives 2H - 2 + kernel places, the blur takes 3 off
        self.padding = ((spare + 1) // 2 + 1, spare // 2 + 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv_transpose2d(x, (self.weight * self.gain).transpose(0, 1), stride=2)
        channels = x.shape[1]
        kernel = self.blur.expand(channels, 1, 4, 4)
        before, after = self.padding
        return F.conv2d(F.pad(x, (before, after, before, after)), kernel, groups=channels)


class Activation(nn.Module):
    """Bias and leaky ReLU, times sqrt 2 to keep the variance."""

    def __init__(self, channels: int):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x + self.bias.view(1, -1, 1, 1), 0.2) * math.sqrt(2)


def conv(a: int, b: int) -> nn.Sequential:
    """An equalised 3x3 convolution and its activation."""
    return nn.Sequential(EqualConv(a, b, 3, bias=False), Activation(b))
