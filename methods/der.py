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
from methods._reservoir import Reservoir
from methods._steady import drift, steady

REQUIRES = "gradient"


@dataclass(frozen=True)
class Config:
    memory: int = 200  # images in all, the paper's smallest buffer
    strength: float = 0.3  # α of the response term, the paper's for CIFAR-10 at that buffer

    @classmethod
    def tiny(cls) -> "Config":
        return cls(memory=12, strength=0.03)  # by the training loss on old and new classes


def build(config: Config, setup: Setup) -> Strategy:
    return setup.strategy([DarkReplay(config, setup.seed)])


class DarkReplay(Plugin):
    """A memory of images with the detector's responses of their day."""

    def __init__(self, config: Config, seed: int):
        super().__init__()
        self.strength, self.memory = config.strength, Reservoir(config.memory, seed)
        self.responses: list[Tensor] = []  # the parts of the response, each (n, ...)

    def before_training_exp(self, strategy, **_):
        """Start drawing batches from the memory."""
        self.batches = self.memory.batches(strategy)

    def before_backward(self, strategy, **_):
        """Add the distance between remembered and present responses to the loss."""
        if not len(self.memory):
            return
        places = next(self.batches)
        with steady(strategy.model):
            now = strategy.model.response(self.memory.read(places, strategy.device))
        then = [part[places].to(strategy.device) for part in self.responses]
        strategy.loss = strategy.loss + self.strength * drift(now, then)

    @torch.no_grad()
    def after_training_exp(self, strategy, **_):
        """Offer the new images to the memory, and note the responses to those that joined."""
        stayed, joined = self.memory.offer(strategy)
        new = []
        with steady(strategy.model):
            for batch in joined.split(strategy.train_mb_size) if len(joined) else ():
                response = strategy.model.response(batch.to(strategy.device).float().div(255))
                new.append([part.cpu() for part in response])
        old = [[part[stayed] for part in self.responses]] if self.responses else []
        self.responses = [torch.cat(parts) for parts in zip(*old, *new, strict=True)]

    def state_dict(self) -> dict:
        return self.memory.state_dict() | {"responses": self.responses}

    def load_state_dict(self, state: dict) -> None:
        self.memory.load_state_dict(state)
        self.responses = [part.cpu() for part in state["responses"]]
