"""Convolutional auto-encoder: what it cannot reconstruct is anomalous.

Bergmann et al., Improving Unsupervised Defect Segmentation by Applying Structural Similarity to Autoencoders,
arXiv:1807.02011 (architecture of Table 1, with the L2 loss).
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from bench.api import Detector, Prediction, Setup, smooth

TRAITS = ("gradient", "latent", "bfloat16")


@dataclass(frozen=True)
class Config:
    epochs: int = 200
    lr: float = 2e-4  # Adam, weight decay 1e-5
    batch_size: int = 16
    width: int = 32  # channels of the first layer
    latent: int = 100  # channels of the bottleneck
    sigma: float = 4.0  # px, smoothing of the map

    @classmethod
    def tiny(cls) -> "Config":
        return cls(epochs=30, lr=2e-3, batch_size=8, width=16, latent=16, sigma=1.5)


def build(config: Config, setup: Setup) -> Detector:
    return AutoEncoder(config)


class AutoEncoder(Detector):
    """Three halvings to a narrow code and back."""

    def __init__(self, config: Config):
        super().__init__()
        self.config, self.epochs, self.batch_size = config, config.epochs, config.batch_size
        w = config.width
        widths = (3, w, 2 * w, 4 * w)
        down = [_block(nn.Conv2d(a, b, 4, 2, 1), b) for a, b in pairwise(widths)]
        up = [_block(nn.ConvTranspose2d(b, a, 4, 2, 1), a) for a, b in pairwise(widths[1:])]
        self.encoder = nn.Sequential(*down, nn.Conv2d(4 * w, config.latent, 1))  # (B, latent, H/8, W/8)
        self.decoder = nn.Sequential(
            _block(nn.Conv2d(config.latent, 4 * w, 1), 4 * w),
            *reversed(up),
            nn.ConvTranspose2d(w, 3, 4, 2, 1),
            nn.Sigmoid(),
        )

    def optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.config.lr, weight_decay=1e-5)

    def encode(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) to codes (B, latent, H/8, W/8)."""
        return self.encoder(image)

    def decode(self, code: Tensor) -> Tensor:
        """Codes to images (B, 3, H, W) in 0..1."""
        return self.decoder(code)

    def response(self, image: Tensor) -> tuple[Tensor]:
        return (self.decode(self.encode(image)),)

    def reconstruct(self, image: Tensor) -> Tensor:
        return self.response(image)[0]

    def loss(self, image: Tensor) -> Tensor:
        return (self.response(image)[0] - image).square().mean()

    def predict(self, image: Tensor) -> Prediction:
        error = (self.response(image)[0] - image).square().mean(1, keepdim=True)  # (B, 1, H, W)
        anomaly_map = smooth(error, self.config.sigma)
        return Prediction(anomaly_map.amax((1, 2, 3)), anomaly_map)


def _block(layer: nn.Module, channels: int) -> nn.Sequential:
    return nn.Sequential(layer, nn.BatchNorm2d(channels), nn.LeakyReLU(0.2))
