"""LwF: on the new images, the detector's response must stay what it was before the step.

Li and Hoiem, Learning without Forgetting, arXiv:1606.09282, with the mean squared error between feature maps in place
of the cross-entropy between softened class probabilities. Nothing is kept between steps: the old detector is the one
that the step begins with. Both respond with the batch norms' running statistics, which nothing protects.
"""

import copy
from dataclasses import dataclass

import torch

from bench.api import Plugin, Setup, Strategy
from methods._steady import mean_squared, steady

REQUIRES = "gradient"


@dataclass(frozen=True)
class Config:
    strength: float = 1.0  # of the distillation beside the loss, as in the paper

    @classmethod
    def tiny(cls) -> "Config":
        return cls(strength=0.01)


def build(config: Config, setup: Setup) -> Strategy:
    return setup.strategy([Distillation(config)])


class Distillation(Plugin):
    """The detector of the step before teaches the detector of this one."""

    def __init__(self, config: Config):
        super().__init__()
        self.config, self.teacher = config, None

    def before_training_exp(self, strategy, **_):
        """Copy the detector as the last step left it; the frozen part is shared."""
        if strategy.experience.current_experience > 0:
            frozen = {id(weight): weight for weight in strategy.model.parameters() if not weight.requires_grad}
            self.teacher = copy.deepcopy(strategy.model, frozen)

    def before_backward(self, strategy, **_):
        """Add the distance between both responses to the loss."""
        if self.teacher is None:
            return
        with steady(self.teacher), torch.no_grad():
            then = self.teacher.response(strategy.mbatch.image)
        with steady(strategy.model):  # from the same state of the generators as the teacher
            now = strategy.model.response(strategy.mbatch.image)
        strategy.loss = strategy.loss + self.config.strength * mean_squared(now, then)

    def after_training_exp(self, strategy, **_):
        """Let the teacher go."""
        self.teacher = None
