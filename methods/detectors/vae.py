"""Variational auto-encoder scored by gradient similarity: one of SCALE's detectors.

Dalle Pezze et al., Continual Learning Approaches for Anomaly Detection, arXiv:2212.11192; layers, loss and map are
those of the authors' code. Images are scaled to -1..1, the range of the Tanh.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.api import Detector, Prediction, Setup, smooth
from methods.detectors._similarity import dissimilarity

TRAITS = ("gradient", "reconstruction")


@dataclass(frozen=True)
class Config:
    epochs: int = 50
    batch_size: int = 32
    lr: float = 1e-3  # Adam, betas (0.5, 0.999)
    channels: tuple[int, ...] = (16, 32, 64, 128, 128, 128)  # after each halving: 256 px become 4 x 4
    latent: int = 256  # numbers that describe an image
    sigma: float = 7.0  # px, smoothing of the map
    imagenet_range: bool = False  # as released: ImageNet-normalised targets, whose range the Tanh cannot reach

    @classmethod
    def tiny(cls) -> "Config":
        return cls(epochs=15, batch_size=8, lr=2e-3, channels=(16, 32, 64, 64), latent=64, sigma=1.5)


def build(config: Config, setup: Setup) -> Detector:
    return Vae(config, setup)


class Vae(Detector):
    """Encoder to a Gaussian, decoder from a draw of it; `predict` decodes the mean instead."""

    def __init__(self, config: Config, setup: Setup):
        super().__init__()
        self.config, self.epochs, self.batch_size = config, config.epochs, config.batch_size
        halvings = 2 ** len(config.channels)
        grid = max(1, round(setup.image_size / halvings))
        self.side = grid * halvings  # px, what the layers can halve so often; other images are resized to it
        deepest = config.channels[-1]
        self.encoder = nn.Sequential(*_down(config.channels), nn.Flatten())
        self.mean = nn.Linear(deepest * grid * grid, config.latent)
        self.log_variance = nn.Linear(deepest * grid * grid, config.latent)
        widen = nn.Sequential(nn.Linear(config.latent, deepest * grid * grid), nn.LeakyReLU(0.2))
        self.decoder = nn.Sequential(widen, nn.Unflatten(1, (deepest, grid, grid)), *_up(config.channels), nn.Tanh())
        shift, scale = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)) if config.imagenet_range else ((0.5,), (0.5,))
        self.register_buffer("shift", torch.tensor(shift).view(1, -1, 1, 1))
        self.register_buffer("scale", torch.tensor(scale).view(1, -1, 1, 1))

    def optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.config.lr, betas=(0.5, 0.999))

    def _normalised(self, image: Tensor) -> Tensor:
        image = (image - self.shift) / self.scale
        return image if image.shape[-1] == self.side else F.interpolate(image, self.side, mode="bilinear")

    def response(self, image: Tensor) -> tuple[Tensor]:
        return (self.decoder(self.mean(self.encoder(self._normalised(image)))),)

    def reconstruct(self, image: Tensor) -> Tensor:
        return self.response(image)[0] * self.scale + self.shift

    def loss(self, image: Tensor) -> Tensor:
        target = self._normalised(image)
        code = self.encoder(target)
        mean, log_variance = self.mean(code), self.log_variance(code)
        drawn = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        error = (self.decoder(drawn) - target).square().sum()
        divergence = 0.5 * (log_variance.exp() - log_variance - 1 + mean.square()).sum()
        return (error + divergence) / len(image)

    def predict(self, image: Tensor) -> Prediction:
        difference = dissimilarity(self._normalised(image), self.response(image)[0])
        anomaly_map = smooth(F.interpolate(difference, image.shape[-2:], mode="bilinear"), self.config.sigma)
        return Prediction(anomaly_map.amax((1, 2, 3)), anomaly_map)


def _down(channels: tuple[int, ...]) -> list[nn.Module]:
    """Halvings with batch norm in all but the first and the last."""
    pairs = list(zip((3, *channels), channels, strict=False))
    return [_block(nn.Conv2d(a, b, 4, 2, 1), 0 < i < len(pairs) - 1) for i, (a, b) in enumerate(pairs)]


def _up(channels: tuple[int, ...]) -> list[nn.Module]:
    """As many doublings, mirrored, without batch norm in the first; the last makes the image."""
    narrowing = list(reversed(channels))
    blocks = [_block(nn.ConvTranspose2d(a, b, 4, 2, 1), i > 0) for i, (a, b) in enumerate(pairwise(narrowing))]
    return [*blocks, nn.ConvTranspose2d(channels[0], 3, 4, 2, 1)]


def _block(layer: nn.Module, norm: bool) -> nn.Sequential:
    return nn.Sequential(layer, *([nn.BatchNorm2d(layer.out_channels)] if norm else []), nn.LeakyReLU(0.2))
