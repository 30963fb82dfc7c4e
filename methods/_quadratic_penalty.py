"""What EWC, SI and MAS share: each weight is pulled back in proportion to how important it was to earlier steps."""

import math
from abc import abstractmethod

import torch
from torch import Tensor

from bench.api import Plugin
from methods._relative_strength import RelativeStrength


class QuadraticPenalty(Plugin):
    """Adds factor · Σ importance · (weight - anchor)² to the loss, summed over all trained weights.

    A subclass says in `measure` what importance is, `strength` what the factor is. Importances of the steps add up;
    the anchor is where the last step ended. Kept between steps: two numbers per trained weight. The running statistics
    of batch norms are no weights: nothing holds them, and they follow the new step as in fine-tuning. Under SGD no pull
    is stiffer than one that a step of the learning rate brings back to its anchor.
    """

    def __init__(self, strength: RelativeStrength):
        super().__init__()
        self.strength = strength
        self.importance: dict[str, Tensor] = {}
        self.anchor: dict[str, Tensor] = {}

    @abstractmethod
    def measure(self, strategy) -> dict[str, Tensor]:
        """Return how important each weight is to the step just learned; weights that got no gradient are left out."""

    def settle(self, name: str, weight: Tensor, importance: Tensor) -> Tensor:
        """Return the anchor of a weight of `importance` to the step just learned, before that is added up."""
        return weight

    def before_training_exp(self, strategy, **_):
        """Note where the step begins."""
        self.strength.leave(strategy.model)

    def before_training_epoch(self, strategy, **_):
        """Before the first one, set how hard the penalty pulls."""
        if strategy.clock.train_exp_epochs == 0:
            self.strength.face(strategy)

    @torch.no_grad()
    def before_update(self, strategy, **_):
        """Pull the weights back: the gradient of the penalty joins that of the loss."""
        stiffest = _stiffest(strategy.optimizer)
        for name, weight in strategy.model.named_parameters():
            if name in self.importance and weight.grad is not None:
                stiffness = (2 * self.strength.factor * self.importance[name]).clamp_max(stiffest)
                weight.grad += stiffness * (weight - self.anchor[name])

    def after_training_exp(self, strategy, **_):
        """Add the importance of this step, move the anchors to where it ended, and measure the pull from there."""
        weights = dict(strategy.model.named_parameters())
        for name, importance in self.measure(strategy).items():
            self.anchor[name] = self.settle(name, weights[name].detach().clone(), importance)
            self.importance[name] = self.importance[name] + importance if name in self.importance else importance
        self.strength.arrive(strategy.model, lambda: self._pull(strategy.model))

    def _pull(self, detector) -> dict[str, Tensor]:
        """The gradient of the penalty at a factor of 1, by name of weight."""
        weights = detector.named_parameters()
        return {
            name: 2 * self.importance[name] * (weight.detach() - self.anchor[name])
            for name, weight in weights
            if name in self.importance
        }

    def state_dict(self) -> dict:
        return {"importance": self.importance, "anchor": self.anchor, "pull": self.strength.pull}

    def load_state_dict(self, state: dict) -> None:
        self.importance, self.anchor, self.strength.pull = state["importance"], state["anchor"], state["pull"]


def _stiffest(optimizer: torch.optim.Optimizer) -> float:
    """The stiffness at which plain gradient descent lands on the anchor in one step: beyond it, it would diverge.

    Adam and its kin bound their steps themselves.
    """
    if not isinstance(optimizer, torch.optim.SGD):
        return math.inf
    return 1 / max(max(group["lr"] for group in optimizer.param_groups), 1e-12)
