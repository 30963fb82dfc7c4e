"""MAS: weights that the detector's output is sensitive to are held back quadratically; no loss is needed.

Aljundi et al., Memory Aware Synapses: Learning what (not) to forget, arXiv:1711.09601, equations 3 to 5.
The paper's outputs are a few logits; here they are feature maps, and the squared norm is divided by their number of
elements, so that the strength means the same whatever the resolution. Batch-norm statistics are not protected.
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
    absolute: float = 0.0  # if not 0, λ of λ · Σ Ω (θ - θ*)² as it is; the paper had 1
    images: int = 256  # of each step, that the sensitivity is averaged over, one by one

    @classmethod
    def tiny(cls) -> "Config":
        return cls(images=48)


def build(config: Config, setup: Setup) -> Strategy:
    return setup.strategy([SensitivityPenalty(config)])


class SensitivityPenalty(QuadraticPenalty):
    """Importance: mean absolute gradient of the squared norm of the response to single images."""

    def __init__(self, config: Config):
        super().__init__(RelativeStrength(config.strength, config.absolute))
        self.images = config.images

    def measure(self, strategy) -> dict[str, Tensor]:
        def norm(image: Tensor) -> Tensor:
            response = strategy.model.response(image)
            return sum(part.square().sum() for part in response) / sum(part.numel() for part in response)

        return mean_over(sample(strategy, self.images), strategy.model, norm, torch.abs)
