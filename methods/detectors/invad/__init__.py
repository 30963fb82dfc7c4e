"""InvAD: a style-modulated generator inverts a frozen encoder's features; where it fails is anomalous.

Zhang et al., Learning Feature Inversion for Multi-class Anomaly Detection under General-purpose COCO-AD Benchmark,
arXiv:2404.10760; the detector that ReplayCAD (arXiv:2505.06603) retrains. Training is ReplayCAD's.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.api import Detector, Prediction, Setup, clip, smooth, trainable
from methods.detectors.invad.generator import Fuser, Generator

TRAITS = ("gradient", "bfloat16")
BACKBONE = "wide_resnet50_2.racm_in1k"


@dataclass(frozen=True)
class Config:
    epochs: int = 200
    batch_size: int = 32
    lr: float = 4e-3  # Adam, betas (0, 0.99); a tenth of it for the last fifth of the epochs
    strides: tuple[int, ...] = (4, 8, 16)  # layer1 to layer3 of a ResNet; each twice the one before
    style: int = 64  # channels of the style maps
    modulation: int = 16  # channels of what modulates the generator
    sigma: float = 4.0  # px, smoothing of the map

    @classmethod
    def tiny(cls) -> "Config":
        return cls(epochs=8, batch_size=8, lr=0.02, strides=(4, 8), sigma=1.5)


def build(config: Config, setup: Setup) -> Detector:
    return InvAd(config, setup)


class InvAd(Detector):
    """Fuser: features to style maps; generator: a learned constant and the style maps to the features again."""

    def __init__(self, config: Config, setup: Setup):
        super().__init__()
        self.config, self.epochs, self.batch_size = config, config.epochs, config.batch_size
        self.encoder = setup.features(*config.strides)
        self.fuser = Fuser(self.encoder.channels, self.encoder.strides, config.style)
        deepest = self.encoder.strides[-1]
        self.side = max(1, round(setup.image_size / deepest)) * deepest  # px, other images are resized to it
        self.generator = Generator(self.encoder.channels, self.side // deepest, config.style, config.modulation)

    def optimizer(self) -> torch.optim.Optimizer:
        return clip(torch.optim.Adam(trainable(self), lr=self.config.lr, betas=(0.0, 0.99)), norm=5.0)

    def scheduler(self, optimizer, iterations: int) -> torch.optim.lr_scheduler.LRScheduler:
        return torch.optim.lr_scheduler.StepLR(optimizer, max(1, int(0.8 * iterations)), gamma=0.1)

    def _compare(self, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        maps = self.encoder(_fitted(image, self.side)).values()
        features = [_fitted(each, self.side // stride) for each, stride in zip(maps, self.encoder.strides, strict=True)]
        return features, self.generator(self.fuser(features))

    def response(self, image: Tensor) -> list[Tensor]:
        return self._compare(image)[1]

    def loss(self, image: Tensor) -> Tensor:
        return sum(F.mse_loss(made, real) for real, made in zip(*self._compare(image), strict=True))

    def predict(self, image: Tensor) -> Prediction:
        real, made = self._compare(image)
        grid = real[0].shape[-2:]
        similarity = F.cosine_similarity(_joined(real, grid), _joined(made, grid)).unsqueeze(1)  # (B, 1, h, w)
        full = F.interpolate(1 - similarity, image.shape[-2:], mode="bilinear", align_corners=True)
        anomaly_map = smooth(full, self.config.sigma)
        return Prediction(anomaly_map.amax((1, 2, 3)), anomaly_map)


def _joined(maps: list[Tensor], grid: torch.Size) -> Tensor:
    """Maps of unit length at every place, brought to one grid and concatenated: (B, sum of C, h, w)."""
    unit = [F.normalize(each) for each in maps]
    return torch.cat([F.interpolate(each, grid, mode="bilinear", align_corners=True) for each in unit], 1)


def _fitted(maps: Tensor, side: int) -> Tensor:
    """(B, C, side, side), untouched where it is that already."""
    return maps if maps.shape[-1] == side else F.interpolate(maps, (side, side), mode="bilinear")
