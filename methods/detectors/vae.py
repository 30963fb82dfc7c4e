"""Variational auto-encoder scored by gradient similarity: one of SCALE's detectors.

Dalle Pezze et al., Continual Learning Approaches for Anomaly Detection, arXiv:2212.11192; layers, loss and map are
those of the authors' code. Images are scaled to -1..1, the range of the Tanh.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.api import Detector, Prediction, Setup, smooth
from methods.detectors._halvings import Frame, down, up
from methods.detectors._similarity import dissimilarity, scored

TRAITS = ("gradient", "latent", "sampling", "bfloat16")


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
        self.frame = Frame(setup.image_size, len(config.channels), config.imagenet_range)
        deepest, grid = config.channels[-1], self.frame.grid
        self.encoder = nn.Sequential(*down(config.channels), nn.Flatten())
        self.mean = nn.Linear(deepest * grid * grid, config.latent)
        self.log_variance = nn.Linear(deepest * grid * grid, config.latent)
        widen = nn.Sequential(nn.Linear(config.latent, deepest * grid * grid), nn.LeakyReLU(0.2))
        self.decoder = nn.Sequential(widen, nn.Unflatten(1, (deepest, grid, grid)), *up(config.channels))

    def optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.config.lr, betas=(0.5, 0.999))

    def encode(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) to the means of their Gaussians (B, latent)."""
        return self.mean(self.encoder(self.frame(image)))

    def decode(self, code: Tensor) -> Tensor:
        """(B, latent) to images (B, 3, H, W) in 0..1."""
        return self.frame.back(self.decoder(code))

    def sample(self, count: int) -> Tensor:
        """Return as many images (B, 3, H, W) in 0..1, of draws from the prior."""
        return self.decode(torch.randn(count, self.config.latent).to(self.mean.weight.device))

    def response(self, image: Tensor) -> tuple[Tensor]:
        return (self.decoder(self.encode(image)),)

    def reconstruct(self, image: Tensor) -> Tensor:
        return self.decode(self.encode(image))

    def loss(self, image: Tensor) -> Tensor:
        target = self.frame(image)
        code = self.encoder(target)
        mean, log_variance = self.mean(code), self.log_variance(code)
        drawn = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        error = (self.decoder(drawn) - target).square().sum()
        divergence = 0.5 * (log_variance.exp() - log_variance - 1 + mean.square()).sum()
        return (error + divergence) / len(image)

    def predict(self, image: Tensor) -> Prediction:
        difference = dissimilarity(self.frame(image), self.response(image)[0])
        return scored(smooth(F.interpolate(difference, image.shape[-2:], mode="bilinear"), self.config.sigma))
