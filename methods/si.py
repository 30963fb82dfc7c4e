"""SI: weights whose movement lowered the loss of earlier steps are held back quadratically.

Zenke et al., Continual Learning Through Synaptic Intelligence, arXiv:1703.04200, equations 3 to 5. The gradient in
the path integral is that of the detector's loss alone, without the penalty. A negative importance would reward moving
away, so it counts as none. Batch-norm statistics are not protected.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from bench.api import Setup, Strategy
from methods._quadratic_penalty import QuadraticPenalty
from methods._relative_strength import RelativeStrength, trained

REQUIRES = "gradient"


@dataclass(frozen=True)
class Config:
    strength: float = 1.0  # of the penalty relative to the loss (methods/_relative_strength.py); 0 is fine-tuning
    absolute: float = 0.0  # if not 0, c of c · Σ Ω (θ - θ~)² as it is; the paper's permuted MNIST had 0.1
    damping: float = 0.1  # ξ, added to the squared distance that a weight went in a step, as there

    @classmethod
    def tiny(cls) -> "Config":
        return cls()


def build(config: Config, setup: Setup) -> Strategy:
    return setup.strategy([PathPenalty(config)])


class PathPenalty(QuadraticPenalty):
    """Importance: what a weight's way through the step took off the loss, per squared distance from end to end."""

    def __init__(self, config: Config):
        super().__init__(RelativeStrength(config.strength, config.absolute))
        self.damping = config.damping

    def before_training_exp(self, strategy, **_):
        """Start the path integral."""
        super().before_training_exp(strategy)
        self.gain = {name: torch.zeros_like(weight) for name, weight in self.strength.start.items()}  # ω

    def after_backward(self, strategy, **_):
        """Note gradient and place before the penalty and the optimizer move them."""
        self.place = {name: weight.detach().clone() for name, weight in trained(strategy.model)}
        self.gradient = {
            name: weight.grad.clone() for name, weight in strategy.model.named_parameters() if weight.grad is not None
        }

    def after_update(self, strategy, **_):
        """Add gradient times way to the path integral."""
        for name, weight in strategy.model.named_parameters():
            if name in self.gradient:
                self.gain[name] -= self.gradient[name] * (weight.detach() - self.place[name])
        self.place, self.gradient = {}, {}

    def after_training_exp(self, strategy, **_):
        """Turn the path integral into importance."""
        super().after_training_exp(strategy)
        self.gain = {}

    def measure(self, strategy) -> dict[str, Tensor]:
        weights = dict(trained(strategy.model))
        return {
            name: gain.clamp_min(0) / ((weights[name].detach() - self.strength.start[name]).square() + self.damping)
            for name, gain in self.gain.items()
        }
