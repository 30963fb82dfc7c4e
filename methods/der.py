"""DER: remembered images must keep getting the response that they got when they were stored.

Buzzega et al., Dark Experience for General Continual Learning, arXiv:2004.07211, equation 5, with the detector's
response in place of logits and the squared error relative to it. Images and responses are stored at the end of a step,
not along its way, because a response early in the training of an image says little here. Kept between steps: `memory`
images as uint8, a uniform choice of all so far, and their responses as float32. Responses are taken with the batch
norms' running statistics.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from bench.api import Plugin, Setup, Strategy
from methods._relative_strength import RelativeStrength
from methods._reservoir import Reservoir
from methods._without_trace import drift, without_trace

REQUIRES = "gradient"


@dataclass(frozen=True)
class Config:
    memory: int = 100  # images in all, as many as `replay` has; the paper's smallest buffer is 200
    strength: float = 1.0  # of the response term relative to the loss (methods/_relative_strength.py)
    absolute: float = 0.0  # if not 0, α of the response term as it is; the paper's CIFAR-10 at 200 images had 0.3

    @classmethod
    def tiny(cls) -> "Config":
        return cls(memory=12)


def build(config: Config, setup: Setup) -> Strategy:
    return setup.strategy([DarkReplay(config, setup.seed)])


class DarkReplay(Plugin):
    """A memory of images with the detector's responses of their day."""

    def __init__(self, config: Config, seed: int):
        super().__init__()
        self.strength = RelativeStrength(config.strength, config.absolute)
        self.memory = Reservoir(config.memory, seed)
        self.responses: list[Tensor] = []  # the parts of the response, each (n, ...)

    def before_training_exp(self, strategy, **_):
        """Start drawing batches from the memory."""
        self.batches = self.memory.batches(strategy)
        self.strength.leave(strategy.model)

    def before_training_epoch(self, strategy, **_):
        """Before the first one, set how hard the memory pulls."""
        if strategy.clock.train_exp_epochs == 0:
            self.strength.face(strategy)

    def before_backward(self, strategy, **_):
        """Add the distance between remembered and present responses to the loss."""
        if not len(self.memory):
            return
        places = next(self.batches)
        with without_trace(strategy.model):
            now = strategy.model.response(self.memory.read(places, strategy.device))
        then = [part[places].to(strategy.device) for part in self.responses]
        strategy.loss = strategy.loss + self.strength.factor * drift(now, then)

    def after_training_exp(self, strategy, **_):
        """Offer the new images to the memory, and note the responses to those that joined."""
        stayed, joined = self.memory.offer(strategy)
        new = []
        with without_trace(strategy.model), torch.no_grad():
            for batch in joined.split(strategy.train_mb_size) if len(joined) else ():
                response = strategy.model.response(batch.to(strategy.device).float().div(255))
                new.append([part.cpu() for part in response])
        old = [[part[stayed] for part in self.responses]] if self.responses else []
        self.responses = [torch.cat(parts) for parts in zip(*old, *new, strict=True)]
        self.strength.arrive_by_response(strategy)

    def state_dict(self) -> dict:
        return self.memory.state_dict() | {"responses": self.responses, "pull": self.strength.pull}

    def load_state_dict(self, state: dict) -> None:
        self.memory.load_state_dict(state)
        self.responses = [part.cpu() for part in state["responses"]]
        self.strength.pull = state["pull"]
