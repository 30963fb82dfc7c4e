"""PatchCore: distance to the nearest stored patch feature (anomalib's model).

Roth et al., Towards Total Recall in Industrial Anomaly Detection, arXiv:2106.08265.
Each step's bank replaces the last one: under fine-tuning, earlier classes are forgotten.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from anomalib.models.image.patchcore.torch_model import PatchcoreModel
from torch import Tensor
from torch.nn import functional as F

from bench.api import Detector, Prediction, Setup, smooth
from methods.detectors.patchcore.coreset import coreset

TRAITS = ("memory_bank",)
BACKBONE = "wide_resnet50_2"


@dataclass(frozen=True)
class Config:
    patches: int = 30_000  # features in the bank
    candidates: int = 0  # features drawn at random before the coreset is chosen; 0: all, as the paper
    neighbors: int = 9  # that weigh the image score
    strides: tuple[int, ...] = (8, 16)  # layer2 and layer3 of a ResNet
    batch_size: int = 32
    sigma: float = 4.0  # px, smoothing of the map

    @classmethod
    def tiny(cls) -> "Config":
        return cls(patches=1_800, candidates=20_000, strides=(4, 8), sigma=1.5)


def build(config: Config, setup: Setup) -> Detector:
    return PatchCore(config, setup)


def mean_distance(distances: Tensor) -> Tensor:
    """How far images are from a bank: the mean of their patches' distances (..., patches)."""
    return distances.mean(-1)


class PatchCore(Detector):
    """A bank of at most `patches` features; several banks where a method routes between them."""

    def __init__(self, config: Config, setup: Setup):
        super().__init__()
        self.config, self.batch_size = config, config.batch_size
        features = setup.features(*config.strides)
        with features.inside("anomalib.models.image.patchcore.torch_model"):
            self.net = PatchcoreModel(features.layers, num_neighbors=config.neighbors)
        self.lots: list[Tensor] = []  # a random number per stored patch: the smallest are kept
        self.banks: list[Tensor] = []  # if set, predict with the nearest of these
        self.route_rule, self.routes, self.choose = mean_distance, True, coreset

    @torch.no_grad()
    def loss(self, image: Tensor) -> Tensor:
        self.lots.append(torch.rand(len(self.net(image)), device=image.device))  # in train mode the net stores features
        if self.config.candidates and sum(map(len, self.lots)) > 2 * self.config.candidates:
            self._draw()
        return image.new_zeros(())

    def _draw(self) -> None:
        """Keep `candidates` of the stored patches, uniformly at random."""
        lots, stored = torch.cat(self.lots), torch.cat(self.net.embedding_store)
        kept = lots.argsort()[: self.config.candidates]
        self.lots, self.net.embedding_store = [lots[kept]], [stored[kept]]

    @torch.no_grad()
    def consolidate(self, images) -> None:
        if self.config.candidates:
            self._draw()
        self.net.memory_bank = self.thin(torch.cat(self.net.embedding_store), self.config.patches)
        self.net.embedding_store, self.lots = [], []

    @torch.no_grad()
    def thin(self, bank: Tensor, patches: int) -> Tensor:
        """Return at most `patches` rows of `bank` (n, D), by greedy k-centre unless a method set `choose`."""
        return self.choose(bank, patches)

    def take_bank(self) -> Tensor:
        """Hand over the bank (n, D) of the step just learned; the detector keeps none."""
        bank, self.net.memory_bank = self.net.memory_bank, self.net.memory_bank.new_empty(0)
        return bank

    def route_to(self, banks: list[Tensor], rule: Callable[[Tensor], Tensor] = mean_distance) -> None:
        """Predict each image with the one of `banks` for which `rule` of its patches' distances is lowest."""
        self.banks, self.route_rule, self.routes = banks, rule, True

    def judge_by(self, bank: Tensor) -> None:
        """Predict every image with `bank`, which a method keeps; nothing is routed."""
        self.banks, self.routes = [bank], False

    def predict(self, image: Tensor) -> Prediction:
        maps = {layer: self.net.feature_pooler(f) for layer, f in self.net.feature_extractor(image).items()}
        grid = self.net.generate_embedding(maps)  # (B, D, h, w)
        judged = [self._judge(bank, grid) for bank in self.banks or [self.net.memory_bank]]
        scores, distances = (torch.stack(part) for part in zip(*judged, strict=True))  # (banks, B), (banks, B, h*w)
        nearest = self.route_rule(distances).argmin(0)  # (B,)
        each = torch.arange(len(image), device=image.device)
        patches = distances[nearest, each].view(len(image), 1, *grid.shape[-2:])
        anomaly_map = smooth(F.interpolate(patches, image.shape[-2:]), self.config.sigma)
        return Prediction(scores[nearest, each], anomaly_map, nearest if self.banks and self.routes else None)

    def _judge(self, bank: Tensor, grid: Tensor) -> tuple[Tensor, Tensor]:
        """Image scores (B,) and patch distances (B, h*w) by one bank."""
        self.net.memory_bank = bank
        embedding = self.net.reshape_embedding(grid)
        distances, places = (x.view(len(grid), -1) for x in self.net.nearest_neighbors(embedding, n_neighbors=1))
        return self.net.compute_anomaly_score(distances, places, embedding), distances
