"""Pix2pix: a U-Net turns one image into another, a discriminator judges the pair.

Isola et al., Image-to-Image Translation with Conditional Adversarial Networks, arXiv:1611.07004, as SCALE
(arXiv:2212.11192) has it: PixelGAN discriminator, vanilla GAN loss, batch norm, Adam with betas (0.5, 0.999).
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from methods._range import Range


def side_for(pixels: int) -> tuple[int, int]:
    """Side that a U-Net can take, nearest to `pixels`, and how often it halves it: at most 8 times, down to 1 or 2."""
    halvings = min(8, int(math.log2(pixels)))
    return max(1, round(pixels / 2**halvings)) * 2**halvings, halvings


class Pix2Pix(nn.Module):
    """Generator and discriminator; values are (B, 3, H, W) in the `range` of the Tanh.

    The discriminator moves inside `loss`, by an optimizer of its own that `start` renews: an optimizer never outlives
    a step of the stream, so that the state is the weights alone. The caller moves the generator.
    """

    def __init__(self, halvings: int, width: int, lr: float, *, l1: float = 100.0, imagenet_range: bool = False):
        super().__init__()
        self.lr, self.l1 = lr, l1
        self.range = Range(imagenet_range)
        self.generator = UNet(halvings, width)
        self.discriminator = pixel_discriminator(width)
        self.apply(_initialise)
        self.to(memory_format=torch.channels_last)  # batches are up to a third faster so on a CPU
        self.start()

    def start(self) -> None:
        """Begin a step of the stream: the discriminator's optimizer forgets."""
        self._critic = self._adam(self.discriminator)

    def optimizer(self) -> torch.optim.Optimizer:
        """Return a fresh optimizer of the generator."""
        return self._adam(self.generator)

    def _adam(self, net: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(net.parameters(), lr=self.lr, betas=(0.5, 0.999))

    def loss(self, given: Tensor, real: Tensor) -> Tensor:
        """Return the generator's loss on making `real` of `given`; in training, the discriminator steps first."""
        made = self.generator(given)
        if self.discriminator[-1].training and torch.is_grad_enabled():  # a mere look at the loss leaves no trace
            self._step(given, made.detach(), real)
        weights = {name: weight.detach() for name, weight in self.discriminator.named_parameters()}
        judged = functional_call(self.discriminator, weights, (torch.cat([given, made], 1),))
        return _verdict(judged, True) + self.l1 * F.l1_loss(made, real)

    def _step(self, given: Tensor, made: Tensor, real: Tensor) -> None:
        found = [self.discriminator(torch.cat([given, image], 1)) for image in (made, real)]
        (0.5 * (_verdict(found[0], False) + _verdict(found[1], True))).backward()
        self._critic.step()
        self._critic.zero_grad()


def _verdict(logits: Tensor, real: bool) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))


def pixel_discriminator(width: int) -> nn.Sequential:
    """Pairs (B, 6, H, W) to a logit for each pixel (B, 1, H, W), by 1×1 convolutions."""
    return nn.Sequential(
        nn.Conv2d(6, width, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(width, 2 * width, 1, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.LeakyReLU(0.2),
        nn.Conv2d(2 * width, 1, 1, bias=False),
    )


class UNet(nn.Module):
    """(B, 3, H, W) to the same shape in -1..1 through `halvings` halvings with skip connections.

    Outside training the norms use their running statistics and nothing is dropped. With `train_mode_at_test` they go
    on as in training with one image, as the code of SCALE was released: each image by its own statistics, and channels
    dropped, here always the same ones, so that a result is a function of the image.
    """

    def __init__(self, halvings: int, width: int):
        super().__init__()
        widths = [min(2**level, 8) * width for level in range(halvings)]
        inner = range(1, halvings - 1)  # neither the outermost nor the innermost level
        self.down = nn.ModuleList(_down(a, b, i, i in inner) for i, (a, b) in enumerate(pairwise([3, *widths])))
        fed = [width if i == halvings - 1 else 2 * width for i, width in enumerate(widths)]  # with what was skipped
        levels = [_up(fed[i], widths[i - 1], dropout=4 <= i < halvings - 1) for i in range(1, halvings)]
        last = nn.Sequential(nn.ReLU(), nn.ConvTranspose2d(fed[0], 3, 4, 2, 1), nn.Tanh())
        self.up = nn.ModuleList([last, *levels])

    def train_mode_at_test(self, on: bool = True) -> "UNet":
        """Go on as in training when asked outside it."""
        for layer in self.modules():
            if isinstance(layer, Norm | Dropout):
                layer.always = on
        return self

    def forward(self, x: Tensor) -> Tensor:
        skipped = []
        for down in self.down:
            x = down(x)
            skipped.append(x)
        for level in reversed(range(len(self.up))):
            deepest = level == len(self.up) - 1
            x = self.up[level](x if deepest else torch.cat([skipped[level], x], 1))
        return x


def _down(a: int, b: int, level: int, norm: bool) -> nn.Sequential:
    activation = [nn.LeakyReLU(0.2)] if level else []
    return nn.Sequential(*activation, nn.Conv2d(a, b, 4, 2, 1, bias=False), *([Norm(b)] if norm else []))


def _up(a: int, b: int, *, dropout: bool) -> nn.Sequential:
    layers = [nn.ReLU(), nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False), Norm(b)]
    return nn.Sequential(*layers, *([Dropout(0.5)] if dropout else []))


class Norm(nn.BatchNorm2d):
    """Batch norm that may go on by the statistics of each image alone outside training."""

    always = False

    def forward(self, x: Tensor) -> Tensor:
        if self.always and not self.training:
            return F.instance_norm(x, weight=self.weight, bias=self.bias, eps=self.eps)
        return super().forward(x)


class Dropout(nn.Dropout):
    """Dropout that may go on outside training, with one draw for all images at all times."""

    always = False

    def forward(self, x: Tensor) -> Tensor:
        if self.always and not self.training:
            draw = torch.rand(x.shape[1:], generator=torch.Generator().manual_seed(0)).to(x.device)
            return x * (draw >= self.p) / (1 - self.p)
        return super().forward(x)


def _initialise(layer: nn.Module) -> None:
    """Normal weights of deviation 0.02, around 1 for norms; no bias."""
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d):
        nn.init.normal_(layer.weight, float(isinstance(layer, nn.BatchNorm2d)), 0.02)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
