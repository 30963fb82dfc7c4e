"""A-GEM: a gradient that would raise the loss on remembered images loses the component that does.

Chaudhry et al., Efficient Lifelong Learning with A-GEM, arXiv:1812.00420, equation 11. Kept between steps: `memory`
images as uint8, a uniform choice of all so far. The reference gradient is taken with the batch norms' running
statistics, which the remembered images do not enter. As in the paper the gradient is projected, not what an optimizer
with momentum makes of it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from bench.api import Plugin, Setup, Strategy
from methods._reservoir import Reservoir
from methods._without_trace import without_trace

REQUIRES = "gradient"


@dataclass(frozen=True)
class Config:
    memory: int = 100  # images in all, as many as `replay` has; 0 is fine-tuning

    @classmethod
    def tiny(cls) -> "Config":
        return cls(memory=12)


def build(config: Config, setup: Setup) -> Strategy:
    return setup.strategy([AverageGradient(config, setup.seed)])


class AverageGradient(Plugin):
    """Keeps the average gradient on a batch of remembered images from being opposed."""

    def __init__(self, config: Config, seed: int):
        super().__init__()
        self.memory = Reservoir(config.memory, seed)

    def before_training_exp(self, strategy, **_):
        """Start drawing batches from the memory."""
        self.batches = self.memory.batches(strategy)

    def before_update(self, strategy, **_):
        """Project the gradient where it opposes the reference."""
        if not len(self.memory):
            return
        weights = [weight for weight in strategy.model.parameters() if weight.grad is not None]
        with without_trace(strategy.model):
            loss = strategy.model.loss(self.memory.read(next(self.batches), strategy.device))
            if not loss.requires_grad:  # the detector holds all of these images out
                return
            reference = torch.autograd.grad(loss, weights, materialize_grads=True)
        project([weight.grad for weight in weights], reference)

    def after_training_exp(self, strategy, **_):
        """Offer the new images to the memory."""
        self.memory.offer(strategy)

    def state_dict(self) -> dict:
        return self.memory.state_dict()

    def load_state_dict(self, state: dict) -> None:
        self.memory.load_state_dict(state)


def project(gradients: list[Tensor], reference: list[Tensor]) -> None:
    """Take from `gradients`, in place, what opposes `reference`: g - (g·r / r·r) r wherever g·r < 0.

    Without a branch, for which a GPU would have to be waited for at every batch.
    """
    along = sum((g * r).sum() for g, r in zip(gradients, reference, strict=True))
    share = torch.where(along < 0, along / sum(r.square().sum() for r in reference), 0)
    for g, r in zip(gradients, reference, strict=True):
        g -= share * r
