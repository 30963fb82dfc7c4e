"""SI: weights whose movement lowered the loss of earlier steps are held back quadratically.

Zenke et al., Continual Learning Through Synaptic Intelligence, arXiv:1703.04200, equations 3 to 5. The gradient in
the path integral is that of the detector's loss alone, without the penalty. A negative importance would reward moving
away, so it counts as none. Batch-norm statistics are not protected.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from bench.api import Setup, Strategy
from methods._importance import Springs

REQUIRES = "gradient"


@dataclass(frozen=True)
class Config:
    strength: float = 0.1  # c of the penalty c · Σ Ω (θ - θ~)², as in the paper's permuted MNIST
    damping: float = 0.1  # ξ, added to the squared distance that a weight went in a step, as there

    @classmethod
    def tiny(cls) -> "Config":
        return cls(strength=10.0)


def build(config: Config, setup: Setup) -> Strategy:
    return setup.strategy([PathSprings(config)])


class PathSprings(Springs):
    """Importance: what a weight's way through the step took off the loss, per squared distance from end to end."""

    def __init__(self, config: Config):
        super().__init__(config.strength)
        self.damping = config.damping

    def before_training_exp(self, strategy, **_):
        """Note where the step begins."""
        self.start = self._weights(strategy)
        self.gain = {name: torch.zeros_like(weight) for name, weight in self.start.items()}  # ω

    def after_backward(self, strategy, **_):
        """Note gradient and place before the penalty and the optimizer move them."""
        self.place = self._weights(strategy)
        self.gradient = {
            name: weight.grad.clone() for name, weight in strategy.model.named_parameters() if weight.grad is not None
        }

    def after_update(self, strategy, **_):
        """Add gradient times way to the path integral."""
        for name, weight in strategy.model.named_parameters():
            if name in self.gradient:
                self.gain[name] -= self.gradient[name] * (weight.detach() - self.place[name])

    def measure(self, strategy) -> dict[str, Tensor]:
        weights = self._weights(strategy)
        return {
            name: gain.clamp_min(0) / ((weights[name] - self.start[name]).square() + self.damping)
            for name, gain in self.gain.items()
        }

    def _weights(self, strategy) -> dict[str, Tensor]:
        weights = strategy.model.named_parameters()
        return {name: weight.detach().clone() for name, weight in weights if weight.requires_grad}
