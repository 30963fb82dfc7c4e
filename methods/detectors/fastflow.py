"""FastFlow: normalizing flows over feature maps learn the likelihood of normal; the unlikely is anomalous.

Yu et al., FastFlow: Unsupervised Anomaly Detection and Localization via 2D Normalizing Flows, arXiv:2111.07677.
anomalib's flows, loss and map; built from the measured shapes of the features, so that any backbone and size fits.
"""

from dataclasses import dataclass

import torch
from anomalib.models.image.fastflow.anomaly_map import AnomalyMapGenerator
from anomalib.models.image.fastflow.loss import FastflowLoss
from anomalib.models.image.fastflow.torch_model import create_fast_flow_block
from torch import Tensor, nn

from bench.api import Detector, Prediction, Setup, trainable

TRAITS = ("gradient",)
BACKBONE = "wide_resnet50_2"


@dataclass(frozen=True)
class Config:
    epochs: int = 500
    lr: float = 1e-3  # Adam
    weight_decay: float = 1e-5  # of Adam
    batch_size: int = 32
    flow_steps: int = 8  # coupling blocks per layer
    hidden_ratio: float = 1.0  # width of a block's subnetwork, relative to its input
    only_3x3: bool = False  # else 3×3 and 1×1 kernels take turns; the paper sets it for ResNet-18
    strides: tuple[int, ...] = (4, 8, 16)  # layer1 to layer3 of a ResNet

    @classmethod
    def tiny(cls) -> "Config":
        return cls(epochs=8, lr=2e-3, batch_size=8, flow_steps=4, strides=(4, 8))


def build(config: Config, setup: Setup) -> Detector:
    return Fastflow(config, setup)


class Fastflow(Detector):
    """One flow per layer of a frozen backbone; map = minus likelihood, averaged over the layers."""

    def __init__(self, config: Config, setup: Setup):
        super().__init__()
        self.config, self.epochs, self.batch_size = config, config.epochs, config.batch_size
        self.features = setup.features(*config.strides)
        blank = torch.zeros(1, 3, setup.image_size, setup.image_size)
        shapes = [list(feature.shape[1:]) for feature in self.features(blank).values()]  # [C, h, w] of each layer
        options = (config.only_3x3, config.hidden_ratio, config.flow_steps)
        self.norms = nn.ModuleList(nn.LayerNorm(shape) for shape in shapes)
        self.flows = nn.ModuleList(create_fast_flow_block(shape, *options) for shape in shapes)
        self.likelihood = FastflowLoss()
        self.maps = AnomalyMapGenerator((setup.image_size, setup.image_size))

    def optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(trainable(self), lr=self.config.lr, weight_decay=self.config.weight_decay)

    def _flow(self, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Hidden variables [(B, C, h, w)] and logarithms of the Jacobian determinants [(B,)], one per layer."""
        features = self.features(image).values()
        flown = [flow(norm(f)) for flow, norm, f in zip(self.flows, self.norms, features, strict=True)]
        hidden, jacobians = zip(*flown, strict=True)
        return list(hidden), list(jacobians)

    def response(self, image: Tensor) -> list[Tensor]:
        return self._flow(image)[0]

    def loss(self, image: Tensor) -> Tensor:
        return self.likelihood(*self._flow(image))

    def predict(self, image: Tensor) -> Prediction:
        anomaly_map = self.maps(self._flow(image)[0])
        return Prediction(anomaly_map.amax((1, 2, 3)), anomaly_map)
