"""What EWC, SI and MAS share: each weight is held by a spring as stiff as it was important to earlier steps."""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from bench.api import Plugin
from methods._steady import steady


class Springs(Plugin):
    """Adds strength · Σ importance · (weight - anchor)² to the loss, summed over all trained weights.

    A subclass says in `measure` what importance is. Importances of the steps add up; the anchor is where the last
    step ended. Kept between steps: two numbers per trained weight. The running statistics of batch norms are no
    weights: nothing holds them, and they follow the new step as in fine-tuning. Under SGD no spring is stiffer than
    one that a step of the learning rate brings back to its anchor.
    """

    def __init__(self, strength: float):
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

    @torch.no_grad()
    def before_update(self, strategy, **_):
        """Pull the weights back: the gradient of the penalty joins that of the loss."""
        stiffest = _stiffest(strategy.optimizer)
        for name, weight in strategy.model.named_parameters():
            if name in self.importance and weight.grad is not None:
                stiffness = (2 * self.strength * self.importance[name]).clamp_max(stiffest)
                weight.grad += stiffness * (weight - self.anchor[name])

    def after_training_exp(self, strategy, **_):
        """Stiffen the springs and hang them where the step ended."""
        weights = dict(strategy.model.named_parameters())
        for name, importance in self.measure(strategy).items():
            self.anchor[name] = self.settle(name, weights[name].detach().clone(), importance)
            self.importance[name] = self.importance[name] + importance if name in self.importance else importance

    def state_dict(self) -> dict:
        return {"importance": self.importance, "anchor": self.anchor}

    def load_state_dict(self, state: dict) -> None:
        self.importance, self.anchor = state["importance"], state["anchor"]


def _stiffest(optimizer: torch.optim.Optimizer) -> float:
    """The stiffness at which plain gradient descent lands on the anchor in one step: beyond it, it would diverge.

    Adam and its kin bound their steps themselves.
    """
    if not isinstance(optimizer, torch.optim.SGD):
        return math.inf
    return 1 / max(max(group["lr"] for group in optimizer.param_groups), 1e-12)


def sample(strategy, images: int) -> Iterable[Tensor]:
    """Up to `images` images of the step, evenly spread over it, each as a batch of one (1, 3, H, W)."""
    dataset = strategy.experience.dataset
    for index in torch.linspace(0, len(dataset) - 1, min(images, len(dataset))).long().tolist():
        yield dataset[index][0][None].to(strategy.device)


def mean_over(
    images: Iterable[Tensor], detector: nn.Module, energy: Callable[[Tensor], Tensor], of: Callable[[Tensor], Tensor]
) -> dict[str, Tensor]:
    """Return the mean over `images` of `of(d energy(image) / d weight)` for each weight that takes part.

    Images of which the detector learns nothing, because it holds them out, do not count.
    """
    weights = {name: weight for name, weight in detector.named_parameters() if weight.requires_grad}
    total, count = {}, 0
    with steady(detector):
        for value in map(energy, images):
            if not value.requires_grad:
                continue
            count += 1
            gradients = torch.autograd.grad(value, list(weights.values()), allow_unused=True)
            for name, gradient in zip(weights, gradients, strict=True):
                if gradient is not None:
                    total[name] = total.get(name, 0) + of(gradient)
    return {name: value / count for name, value in total.items()}
