"""DNE: statistics of each step's normal embeddings stand for its images; one Gaussian of samples from all judges.

Li et al., Towards Continual Adaptation in Industrial Anomaly Detection (ACM MM 2022). The network learns on at every
step, only its head is frozen after the first: the statistics of earlier steps describe an older network, for which the
method has no answer.
Kept between steps: number, mean and covariance of the embeddings of every step.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.api import Plugin, Setup, Strategy
from methods import finetune
from methods.detectors.cutpaste_vit import shrunk_covariance

DEFAULT_DETECTOR = "cutpaste_vit"
REQUIRES = "normal_embedding"

Config = finetune.Config


def build(config: Config, setup: Setup) -> Strategy:
    return setup.strategy([EmbeddingStatistics(setup.detector)])


class EmbeddingStatistics(Plugin):
    """Replays Gaussian samples of earlier embeddings beside the new ones."""

    def __init__(self, detector):
        super().__init__()
        self.detector = detector
        self.steps: list[dict[str, Tensor | int]] = []  # count, mean (D,) and covariance (D, D) of each

    def after_training_exp(self, strategy, **_):
        """Fit one Gaussian to samples of all earlier steps and the new embeddings, and keep the statistics of these."""
        new = self.detector.embeddings
        old = [F.normalize(sample(step), dim=1).to(new) for step in self.steps]
        self.detector.fit(torch.cat([*old, new]))
        self.steps.append({"count": len(new), "mean": new.mean(0), "covariance": shrunk_covariance(new)})
        self.detector.freeze_head()

    def state_dict(self) -> dict:
        return {"steps": self.steps}

    def load_state_dict(self, state: dict) -> None:
        self.steps = state["steps"]
        if self.steps:
            self.detector.freeze_head()


def sample(step: dict[str, Tensor | int]) -> Tensor:
    """As many draws (count, D) of a step's Gaussian as it had images."""
    values, vectors = torch.linalg.eigh(step["covariance"].double())
    noise = torch.randn(step["count"], len(values), dtype=torch.float64).to(values.device)
    return step["mean"] + ((noise * values.clamp(min=0).sqrt()) @ vectors.T).float()
