"""PaDiM: a Gaussian of patch features at every position (anomalib's model).

Defard et al., PaDiM: a Patch Distribution Modeling Framework, arXiv:2011.08785.
Each step's Gaussians replace the last ones: under fine-tuning, earlier classes are forgotten.
"""

from dataclasses import dataclass

import torch
from anomalib.models.image.padim.anomaly_map import AnomalyMapGenerator
from anomalib.models.image.padim.torch_model import PadimModel
from torch import Tensor

from bench.api import Detector, Prediction, Setup

TRAITS = ("gaussian",)
BACKBONE = "wide_resnet50_2"


@dataclass(frozen=True)
class Config:
    features: int = 550  # channels drawn at random out of all layers' (fewer if there are fewer)
    strides: tuple[int, ...] = (4, 8, 16)  # layer1 to layer3 of a ResNet
    batch_size: int = 32
    sigma: float = 4.0  # px, smoothing of the map

    @classmethod
    def tiny(cls) -> "Config":
        return cls(features=64, sigma=1.5)


def build(config: Config, setup: Setup) -> Detector:
    return Padim(config, setup)


class Padim(Detector):
    """Mean and inverse covariance per position; the score is the largest Mahalanobis distance."""

    def __init__(self, config: Config, setup: Setup):
        super().__init__()
        self.batch_size = config.batch_size
        features = setup.features(*config.strides)
        channels = min(config.features, sum(features.channels))
        with features.inside("anomalib.models.image.padim.torch_model"):
            self.net = PadimModel(layers=features.layers, n_features=channels)
        self.net.anomaly_map_generator = AnomalyMapGenerator(config.sigma)

    @torch.no_grad()
    def loss(self, image: Tensor) -> Tensor:
        self.net(image)  # in train mode it stores the features that it computes
        return image.new_zeros(())

    @torch.no_grad()
    def consolidate(self, images) -> None:
        """Fit the Gaussians row by row: those of all places at once take four times the memory of the result."""
        embedding = torch.vstack(self.net.memory_bank)  # (N, D, height, width)
        self.net.memory_bank = []
        _, channels, height, width = embedding.shape
        fitted = self.net.gaussian
        inverse = embedding.new_empty(height, width, channels, channels)
        for row in range(height):
            _, inverse[row] = fitted.fit(embedding[:, :, row : row + 1])
        fitted.mean, fitted.inv_covariance = embedding.mean(dim=0).flatten(1), inverse.flatten(0, 1)

    def predict(self, image: Tensor) -> Prediction:
        found = self.net(image)
        return Prediction(found.pred_score.flatten(), found.anomaly_map)
