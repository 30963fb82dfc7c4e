"""LwF: on the new images, the detector's response must stay what it was before the step.

Li and Hoiem, Learning without Forgetting, arXiv:1606.09282, with the mean squared error between feature maps relative
to the old response, in place of the cross-entropy between softened class probabilities. The old detector is the one
that the step begins with, so only one number is kept between steps (methods/_relative_strength.py). Both respond with
the batch norms' statistics of the batch at hand; the running ones are not protected.
"""

import copy
from dataclasses import dataclass

import torch

from bench.api import Plugin, Setup, Strategy
from methods._relative_strength import RelativeStrength
from methods._without_trace import drift, without_trace

REQUIRES = "gradient"


@dataclass(frozen=True)
class Config:
    strength: float = 1.0  # of the distillation relative to the loss (methods/_relative_strength.py); 0: fine-tuning
    absolute: float = 0.0  # if not 0, the factor of the distillation as it is; the paper's was 1

    @classmethod
    def tiny(cls) -> "Config":
        return cls()


def build(config: Config, setup: Setup) -> Strategy:
    return setup.strategy([Distillation(config)])


class Distillation(Plugin):
    """The detector of the step before teaches the detector of this one."""

    def __init__(self, config: Config):
        super().__init__()
        self.strength, self.teacher = RelativeStrength(config.strength, config.absolute), None

    def before_training_exp(self, strategy, **_):
        """Copy the detector as the last step left it; the frozen part is shared."""
        self.strength.leave(strategy.model)
        if strategy.experience.current_experience > 0:
            frozen = {id(weight): weight for weight in strategy.model.parameters() if not weight.requires_grad}
            self.teacher = copy.deepcopy(strategy.model, frozen)

    def before_backward(self, strategy, **_):
        """Add the distance between both responses to the loss."""
        if self.teacher is None:
            return
        with without_trace(self.teacher, by_batch=True), torch.no_grad():
            then = self.teacher.response(strategy.mbatch.image)
        with without_trace(strategy.model, by_batch=True):  # from the same state of the generators as the teacher
            now = strategy.model.response(strategy.mbatch.image)
        strategy.loss = strategy.loss + self.strength.factor * drift(now, then)

    def before_training_epoch(self, strategy, **_):
        """Before the first one, set how hard the teacher pulls."""
        if strategy.clock.train_exp_epochs == 0:
            self.strength.face(strategy)

    def after_training_exp(self, strategy, **_):
        """Let the teacher go, and measure how hard the detector of now would pull from where the step began."""
        self.teacher = None
        self.strength.arrive_by_response(strategy)

    def state_dict(self) -> dict:
        return {"pull": self.strength.pull}

    def load_state_dict(self, state: dict) -> None:
        self.strength.pull = state["pull"]
