"""PatchFlow: features of several scales in one map, made narrower, and one normalizing flow over it (anomalib's model).

PatchFlow: Leveraging a Flow-Based Model with Patch Features, arXiv:2602.05238, as anomalib 2.7 has it.
"""

from dataclasses import dataclass

import torch
from anomalib.models.image.patchflow.loss import PatchflowLoss
from anomalib.models.image.patchflow.torch_model import PatchflowModel
from torch import Tensor

from bench.api import Detector, Prediction, Setup, trainable

TRAITS = ("gradient",)
BACKBONE = "tf_efficientnet_b5"


@dataclass(frozen=True)
class Config:
    epochs: int = 100
    lr: float = 1e-3  # Adam
    weight_decay: float = 1e-4  # of Adam
    batch_size: int = 32
    strides: tuple[int, ...] = (8, 16, 32)  # of the backbone; the finest is the map's
    scales: int = 3  # sizes of the image, each half of the one before
    width: int = 128  # channels that the flow sees
    hidden: int = 128  # channels inside its couplings
    flow_steps: int = 1  # couplings

    @classmethod
    def tiny(cls) -> "Config":
        return cls(epochs=8, batch_size=8, strides=(4, 8), scales=2, width=32, hidden=32)


def build(config: Config, setup: Setup) -> Detector:
    return PatchFlow(config, setup)


class PatchFlow(Detector):
    """One flow over the joined features; the map is minus the likelihood, the score its maximum."""

    def __init__(self, config: Config, setup: Setup):
        super().__init__()
        self.config, self.epochs, self.batch_size = config, config.epochs, config.batch_size
        features = setup.features(*config.strides)
        features.reductions = features.strides  # as anomalib's extractor calls them
        with features.inside("anomalib.models.image.patchflow.torch_model"):
            self.net = PatchflowModel(
                (setup.image_size, setup.image_size),
                flow_steps=config.flow_steps,
                flow_feature_dim=config.width,
                num_scales=config.scales,
                flow_hidden_dim=config.hidden,
            )
        self.likelihood = PatchflowLoss()

    def optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(trainable(self), lr=self.config.lr, weight_decay=self.config.weight_decay)

    def response(self, image: Tensor) -> list[Tensor]:
        return [self.net(image)[0]]

    def loss(self, image: Tensor) -> Tensor:
        return self.likelihood(*self.net(image))

    def predict(self, image: Tensor) -> Prediction:
        found = self.net(image)
        return Prediction(found.pred_score.flatten(), found.anomaly_map)
