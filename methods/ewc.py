"""EWC: weights with a large Fisher information for earlier steps are held back quadratically.

Kirkpatrick et al., Overcoming catastrophic forgetting in neural networks, arXiv:1612.00796, equation 3, with one
penalty per step. Their sum is itself one quadratic: the Fisher informations add up, and the anchor is the mean of
where the steps ended, weighted by them. So nothing is lost by keeping two numbers per weight however many steps.
The loss stands for the negative log-likelihood. Batch-norm statistics are not protected.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from bench.api import Setup, Strategy
from methods._gradients import mean_over, sample
from methods._quadratic_penalty import QuadraticPenalty
from methods._relative_strength import RelativeStrength

REQUIRES = "gradient"


@dataclass(frozen=True)
class Config:
    strength: float = 1.0  # of the penalty relative to the loss (methods/_relative_strength.py); 0 is fine-tuning
    absolute: float = 0.0  # if not 0, λ of λ/2 · Σ F (θ - θ*)² as it is; the paper's Atari experiments had 400
    images: int = 256  # of each step, that the Fisher information is averaged over, one by one

    @classmethod
    def tiny(cls) -> "Config":
        return cls(images=48)


def build(config: Config, setup: Setup) -> Strategy:
    return setup.strategy([FisherPenalty(config)])


class FisherPenalty(QuadraticPenalty):
    """Importance: mean squared gradient of the loss of single images (the diagonal of the empirical Fisher matrix)."""

    def __init__(self, config: Config):
        super().__init__(RelativeStrength(config.strength, config.absolute / 2))
        self.images = config.images

    def measure(self, strategy) -> dict[str, Tensor]:
        return mean_over(sample(strategy, self.images), strategy.model, strategy.model.loss, torch.square)

    def settle(self, name: str, weight: Tensor, importance: Tensor) -> Tensor:
        if name not in self.importance:
            return weight
        share = importance / (self.importance[name] + importance)  # NaN where no step needed the weight
        return torch.lerp(self.anchor[name], weight, share.nan_to_num(1.0))
