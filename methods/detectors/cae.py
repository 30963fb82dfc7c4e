"""Convolutional auto-encoder scored by gradient similarity: one of SCALE's detectors.

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

TRAITS = ("gradient", "latent", "bfloat16")


@dataclass(frozen=True)
class Config:
    epochs: int = 50
    batch_size: int = 32
    lr: float = 1e-4  # Adam, betas (0.5, 0.999)
    channels: tuple[int, ...] = (16, 32, 64, 128, 256, 512)  # after each halving: 256 px become a code of 512 x 4 x 4
    sigma: float = 7.0  # px, smoothing of the map
    imagenet_range: bool = False  # as released: ImageNet-normalised targets, whose range the Tanh cannot reach

    @classmethod
    def tiny(cls) -> "Config":
        return cls(epochs=15, batch_size=8, lr=2e-3, channels=(16, 32, 64, 16), sigma=1.5)


def build(config: Config, setup: Setup) -> Detector:
    return Cae(config, setup)


class Cae(Detector):
    """Encoder to a map of codes and its mirror."""

    def __init__(self, config: Config, setup: Setup):
        super().__init__()
        self.config, self.epochs, self.batch_size = config, config.epochs, config.batch_size
        self.frame = Frame(setup.image_size, len(config.channels), config.imagenet_range)
        self.encoder = nn.Sequential(*down(config.channels))
        self.decoder = nn.Sequential(*up(config.channels))

    def optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.config.lr, betas=(0.5, 0.999))

    def encode(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) to codes (B, C, h, w), C the last of the channels."""
        return self.encoder(self.frame(image))

    def decode(self, code: Tensor) -> Tensor:
        """Codes to images (B, 3, H, W) in 0..1."""
        return self.frame.back(self.decoder(code))

    def response(self, image: Tensor) -> tuple[Tensor]:
        return (self.decoder(self.encode(image)),)

    def reconstruct(self, image: Tensor) -> Tensor:
        return self.decode(self.encode(image))

    def loss(self, image: Tensor) -> Tensor:
        return F.mse_loss(self.response(image)[0], self.frame(image))

    def predict(self, image: Tensor) -> Prediction:
        difference = dissimilarity(self.frame(image), self.response(image)[0])
        return scored(smooth(F.interpolate(difference, image.shape[-2:], mode="bilinear"), self.config.sigma))
