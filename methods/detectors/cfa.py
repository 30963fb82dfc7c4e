"""CFA: a descriptor draws normal patch features to their nearest centroids; the distance to them is the anomaly.

Lee et al., CFA: Coupled-hypersphere-based Feature Adaptation for Target-Oriented Anomaly Localization,
arXiv:2206.04325 (anomalib's model). Each step's centroids replace the last ones, unless a method merges them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from unittest import mock

import torch
from anomalib.models.image.cfa.anomaly_map import AnomalyMapGenerator
from anomalib.models.image.cfa.loss import CfaLoss
from anomalib.models.image.cfa.torch_model import CfaModel, CoordConv2d
from torch import Tensor, nn

from bench.api import Detector, Features, Prediction, Setup, trainable

TRAITS = ("gradient", "centroid")
BACKBONE = "wide_resnet50_2"
ANOMALIB = "anomalib.models.image.cfa.torch_model"


@dataclass(frozen=True)
class Config:
    epochs: int = 30
    lr: float = 1e-3  # AdamW with amsgrad
    weight_decay: float = 5e-4  # of AdamW
    batch_size: int = 4
    neighbors: int = 3  # centroids that attract a patch (K)
    hard_negatives: int = 3  # centroids next to those, which repel it (J)
    radius: float = 1e-5  # of the hyperspheres, at the start
    learn_radius: bool = True  # as the authors' code; anomalib keeps it
    descriptor_divisor: int = 1  # channels of the backbone per channel of the descriptor (gamma_d)
    strides: tuple[int, ...] = (4, 8, 16)  # layer1 to layer3 of a ResNet
    sigma: int = 4  # px, smoothing of the map

    @classmethod
    def tiny(cls) -> "Config":
        return cls(epochs=4, batch_size=8, sigma=1)


def build(config: Config, setup: Setup) -> Detector:
    return Cfa(config, setup)


class Cfa(Detector):
    """A frozen backbone, a 1×1 convolution with coordinates (the descriptor), one centroid per position.

    `centroid` (D, h*w) averages the descriptor's output over `batches` batches; `merge_centroid` takes in another one.
    """

    def __init__(self, config: Config, setup: Setup):
        super().__init__()
        self.config, self.epochs, self.batch_size = config, config.epochs, config.batch_size
        self.net = _model(config, setup.features(*config.strides))
        self.hyperspheres = CfaLoss(config.neighbors, config.hard_negatives, config.radius)
        radius = self.hyperspheres.radius.detach()  # anomalib leaves a graph behind it
        self.hyperspheres.radius = nn.Parameter(radius, requires_grad=config.learn_radius)
        self.batches = 0

    @property
    def centroid(self) -> Tensor:
        return self.net.memory_bank

    @torch.no_grad()
    def prepare(self, images: Iterable[Tensor]) -> None:
        """Set the centroids to the mean of what the descriptor now makes of each batch."""
        total, self.batches = 0.0, 0
        for image in images:
            total, self.batches = total + self.describe(image).mean(0), self.batches + 1
        self.net.memory_bank = (total / self.batches).flatten(1)

    def merge_centroid(self, centroid: Tensor, batches: int) -> None:
        """Average in a `centroid` (D, h*w) that stands for `batches` batches."""
        total = self.batches + batches
        self.net.memory_bank = (self.centroid * self.batches + centroid.to(self.centroid) * batches) / total
        self.batches = total

    def describe(self, image: Tensor) -> Tensor:
        """Return the descriptor's output (B, D, h, w)."""
        return self.net.descriptor(self.net.feature_extractor(image))

    def optimizer(self) -> torch.optim.Optimizer:
        decay = self.config.weight_decay
        return torch.optim.AdamW(trainable(self), lr=self.config.lr, weight_decay=decay, amsgrad=True)

    def response(self, image: Tensor) -> list[Tensor]:
        return [self.describe(image)]

    def loss(self, image: Tensor) -> Tensor:
        return self.hyperspheres(self.net.compute_distance(self.describe(image)))

    def predict(self, image: Tensor) -> Prediction:
        described = self.describe(image)
        distance = self.net.compute_distance(described).clamp(min=0)  # rounding may leave it below zero
        grid, size = described.shape[-2:], image.shape[-2:]
        anomaly_map = self.net.anomaly_map_generator(distance=distance, scale=grid, image_size=size)
        return Prediction(anomaly_map.amax((1, 2, 3)), anomaly_map)


def _model(config: Config, features: Features) -> CfaModel:
    """anomalib's model on any backbone: "resnet18" is only a name that it accepts."""
    with mock.patch(f"{ANOMALIB}.get_feature_extractor", lambda *_: features):
        model = CfaModel("resnet18", 1, 1, config.neighbors, config.hard_negatives, config.radius)
    channels = sum(features.channels)
    model.descriptor.layer = CoordConv2d(channels, channels // config.descriptor_divisor, kernel_size=1)
    model.descriptor.layer.weight = model.descriptor.layer.bias = None  # the real ones are in its `conv2d`
    model.anomaly_map_generator = AnomalyMapGenerator(config.neighbors, config.sigma)
    model.radius = config.radius  # unused; anomalib leaves a graph behind it
    return model
