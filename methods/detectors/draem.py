"""DRAEM: one network restores images from drawn-in anomalies, another learns to tell where they were.

Zavrtanik et al., DRAEM: A Discriminatively Trained Reconstruction Embedding for Surface Anomaly Detection,
arXiv:2108.07610 (anomalib's networks, loss and anomalies; without a folder of textures these are noise).
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from anomalib.data.utils.generators.perlin import PerlinAnomalyGenerator
from anomalib.models.image.draem.loss import DraemLoss
from anomalib.models.image.draem.torch_model import DiscriminativeSubNetwork, ReconstructiveSubNetwork
from torch import Tensor
from torch.nn import functional as F

from bench.api import BadInput, Detector, Prediction, Setup

TRAITS = ("gradient", "bfloat16")
DEEPEST = 32  # px: the discriminative network halves five times


@dataclass(frozen=True)
class Config:
    epochs: int = 700
    milestones: tuple[int, ...] = (400, 600)  # epochs after which the rate falls to a tenth
    lr: float = 1e-4  # Adam
    batch_size: int = 8
    reconstructive_width: int = 128  # channels of the first layer
    discriminative_width: int = 64  # channels of the first layer
    opacity: tuple[float, float] = (0.1, 1.0)  # of the anomalies, uniform (beta)
    share: float = 0.5  # of the images get an anomaly
    textures: str = ""  # folder of pictures to draw from (the paper: DTD); empty: noise
    window: int = 21  # px, odd: mean filter over the map before the image score is taken

    @classmethod
    def tiny(cls) -> "Config":
        narrow = {"reconstructive_width": 8, "discriminative_width": 4}
        return cls(epochs=3, milestones=(2,), lr=2e-3, batch_size=4, window=5, **narrow)


def build(config: Config, setup: Setup) -> Detector:
    return Draem(config)


class Draem(Detector):
    """Reconstructive and discriminative network; the map is the probability of an anomaly per pixel."""

    def __init__(self, config: Config):
        super().__init__()
        self.config, self.epochs, self.batch_size = config, config.epochs, config.batch_size
        self.restore = ReconstructiveSubNetwork(base_width=config.reconstructive_width)
        self.discriminate = DiscriminativeSubNetwork(6, 2, base_width=config.discriminative_width)
        self.damage = PerlinAnomalyGenerator(_textures(config), config.share, tuple(config.opacity))
        self.error = DraemLoss()

    def optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.config.lr)

    def scheduler(self, optimizer, iterations: int) -> torch.optim.lr_scheduler.LRScheduler:
        falls = [epoch * iterations // self.epochs for epoch in self.config.milestones]
        return torch.optim.lr_scheduler.MultiStepLR(optimizer, falls, gamma=0.1)

    def response(self, image: Tensor) -> list[Tensor]:
        """Return the restored image (B, 3, H, W) and the two logits of each pixel (B, 2, H, W)."""
        height, width = image.shape[-2:]
        padded = F.pad(image, (0, -width % DEEPEST, 0, -height % DEEPEST), mode="reflect")
        restored = self.restore(padded)
        logits = self.discriminate(torch.cat([padded, restored], 1))
        return [restored[..., :height, :width], logits[..., :height, :width]]

    def reconstruct(self, image: Tensor) -> Tensor:
        return self.response(image)[0].clamp(0, 1)  # the network itself is not bounded

    def loss(self, image: Tensor) -> Tensor:
        damaged, mask = self.damage(image)
        restored, logits = self.response(damaged)
        return self.error(image, restored, mask, logits)

    def predict(self, image: Tensor) -> Prediction:
        anomaly_map = self.response(image)[1].softmax(1)[:, 1:]
        window = self.config.window
        smoothed = F.avg_pool2d(anomaly_map, window, stride=1, padding=window // 2)
        return Prediction(smoothed.amax((1, 2, 3)), anomaly_map)


def _textures(config: Config) -> Path | None:
    if config.textures and not Path(config.textures).is_dir():
        raise BadInput(f"there is no folder of textures {config.textures!r}; leave `textures` empty to draw noise.")
    return Path(config.textures) if config.textures else None
