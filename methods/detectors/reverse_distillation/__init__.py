"""Reverse Distillation: a decoder learns to restore a frozen encoder's features; where it fails is anomalous.

Deng and Li, Anomaly Detection via Reverse Distillation from One-Class Embedding, arXiv:2201.10703.
ResNets get anomalib's model; every other backbone gets a decoder mirrored from its channels and strides.
"""

from dataclasses import dataclass

import torch
from anomalib.models.image.reverse_distillation.anomaly_map import AnomalyMapGenerationMode, AnomalyMapGenerator
from anomalib.models.image.reverse_distillation.loss import ReverseDistillationLoss
from anomalib.models.image.reverse_distillation.torch_model import ReverseDistillationModel
from torch import Tensor

from bench.api import Detector, Prediction, Setup, trainable
from methods.detectors.reverse_distillation.mirror import Mirror

TRAITS = ("gradient", "bfloat16")
BACKBONE = "wide_resnet50_2"
WITH_DECODER = ("resnet18", "resnet34", "resnet50", "wide_resnet50_2")  # what anomalib has a decoder for


@dataclass(frozen=True)
class Config:
    epochs: int = 200
    lr: float = 5e-3  # Adam, betas (0.5, 0.999)
    batch_size: int = 16
    strides: tuple[int, ...] = (4, 8, 16)  # layer1 to layer3 of a ResNet
    sigma: float = 4.0  # px, smoothing of the map

    @classmethod
    def tiny(cls) -> "Config":
        return cls(epochs=20, batch_size=8, strides=(4, 8), sigma=1.5)


def build(config: Config, setup: Setup) -> Detector:
    return ReverseDistillation(config, setup)


class ReverseDistillation(Detector):
    """Encoder (frozen), bottleneck and decoder; distance = 1 - cosine similarity, added over the layers."""

    def __init__(self, config: Config, setup: Setup):
        super().__init__()
        self.config, self.epochs, self.batch_size = config, config.epochs, config.batch_size
        self.encoder = setup.features(*config.strides)
        self.decoder = _decoder(self.encoder, setup)
        self.distance = ReverseDistillationLoss()
        size = (setup.image_size, setup.image_size)
        self.maps = AnomalyMapGenerator(size, config.sigma, AnomalyMapGenerationMode.ADD)

    def optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(trainable(self), lr=self.config.lr, betas=(0.5, 0.999))

    def _compare(self, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        features = list(self.encoder(image).values())
        return features, self.decoder(features)

    def response(self, image: Tensor) -> list[Tensor]:
        return self._compare(image)[1]

    def loss(self, image: Tensor) -> Tensor:
        return self.distance(*self._compare(image))

    def predict(self, image: Tensor) -> Prediction:
        anomaly_map = self.maps(*self._compare(image))
        return Prediction(anomaly_map.amax((1, 2, 3)), anomaly_map)


def _decoder(encoder, setup: Setup) -> torch.nn.Module:
    name = setup.backbone.name.partition(".")[0]
    if name not in WITH_DECODER:
        return Mirror(encoder.channels, encoder.strides)
    with encoder.inside("anomalib.models.image.reverse_distillation.torch_model"):
        model = ReverseDistillationModel(name, (setup.image_size,) * 2, encoder.layers, AnomalyMapGenerationMode.ADD)
    return torch.nn.Sequential(model.bottleneck, model.decoder)
