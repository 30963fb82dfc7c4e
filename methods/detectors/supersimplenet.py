"""SuperSimpleNet: two small heads learn to tell normal features from noised ones (anomalib's model).

Rolih et al., SuperSimpleNet: Unifying Unsupervised and Supervised Learning for Fast and Reliable Surface Defect
Detection, arXiv:2408.03143, unsupervised: the anomalies are Gaussian noise on the features of Perlin-shaped regions.
"""

from dataclasses import dataclass

import torch
from anomalib.models.image.supersimplenet.anomaly_generator import AnomalyGenerator
from anomalib.models.image.supersimplenet.loss import SSNLoss
from anomalib.models.image.supersimplenet.torch_model import SupersimplenetModel
from torch import Tensor
from torch.nn import functional as F

from bench.api import Detector, Prediction, Setup, smooth

TRAITS = ("gradient", "bfloat16")
BACKBONE = "wide_resnet50_2.tv_in1k"


@dataclass(frozen=True)
class Config:
    epochs: int = 300
    batch_size: int = 32
    lr: float = 1e-4  # AdamW, of the adaptor; the heads learn at twice the rate
    noise: float = 0.015  # standard deviation of the noise on the features
    threshold: float = 0.2  # of the Perlin noise, above which features are noised
    strides: tuple[int, ...] = (8, 16)  # layer2 and layer3 of a ResNet
    sigma: float = 4.0  # px, smoothing of the map

    @classmethod
    def tiny(cls) -> "Config":
        # Features of the small network spread about as wide as 1: the paper's noise would not be seen in them.
        return cls(epochs=8, batch_size=8, lr=2e-3, noise=0.6, strides=(8,), sigma=1.5)


def build(config: Config, setup: Setup) -> Detector:
    return SuperSimpleNet(config, setup)


class Anomalies(AnomalyGenerator):
    """anomalib's, drawn on at least 32 x 32 places: its coarsest noise needs as many, smaller maps shrink it."""

    @staticmethod
    def next_power_2(num: int) -> int:
        return max(32, AnomalyGenerator.next_power_2(num))


class SuperSimpleNet(Detector):
    """Adaptor, segmentation head and classification head on frozen features; scores and maps are logits."""

    def __init__(self, config: Config, setup: Setup):
        super().__init__()
        self.config, self.epochs, self.batch_size = config, config.epochs, config.batch_size
        features = setup.features(*config.strides)
        with features.inside("anomalib.models.image.supersimplenet.torch_model"):
            self.net = SupersimplenetModel(layers=features.layers)
        self.net.anomaly_generator = Anomalies(0.0, config.noise, config.threshold)
        self.criterion = SSNLoss()

    def optimizer(self) -> torch.optim.Optimizer:
        adaptor = {"params": self.net.adaptor.parameters(), "lr": self.config.lr}
        heads = {"params": self.net.segdec.parameters(), "lr": 2 * self.config.lr, "weight_decay": 1e-5}
        return torch.optim.AdamW([adaptor, heads])

    def scheduler(self, optimizer, iterations: int) -> torch.optim.lr_scheduler.LRScheduler:
        per_epoch = iterations // self.epochs
        milestones = [int(self.epochs * part) * per_epoch for part in (0.8, 0.9)]
        return torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, gamma=0.4)

    def networks(self) -> list[torch.nn.Module]:
        return [self.net.feature_extractor, self.net.adaptor, self.net.segdec]

    def _features(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Frozen and adapted features, each (B, C, h, w)."""
        features = self.net.feature_extractor(image)
        return features, self.net.adaptor(features)

    def response(self, image: Tensor) -> tuple[Tensor, Tensor]:
        features, adapted = self._features(image)
        return self.net.segdec(seg_features=adapted, cls_features=features)

    def loss(self, image: Tensor) -> Tensor:
        features, adapted = self._features(image)
        normal_map = torch.zeros_like(features[:, :1])
        normal = torch.zeros(len(image), device=image.device)
        noised, noised_adapted, mask, label = self.net.anomaly_generator(features, adapted, normal_map, normal)
        anomaly_map, score = self.net.segdec(seg_features=noised_adapted, cls_features=noised)
        return self.criterion(anomaly_map, score, mask, label)

    def predict(self, image: Tensor) -> Prediction:
        anomaly_map, score = self.response(image)  # without anomalib's sigmoid, which makes ties of high scores
        full = F.interpolate(anomaly_map, size=image.shape[-2:], mode="bilinear")
        return Prediction(score.flatten(), smooth(full, self.config.sigma))
