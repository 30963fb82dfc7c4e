"""Replay: a few stored images of every class seen are trained on again beside the new ones.

Robins 1995; Chaudhry et al., On Tiny Episodic Memories in Continual Learning, arXiv:1902.10486.
Kept between steps: `memory` images as uint8, shared equally by the classes seen, or `per_class` of each.
"""

from dataclasses import dataclass

from bench.api import Plugin, Setup, Strategy, normal_images
from methods._quota import Quota, by_class

CAPABILITIES = ("labels",)  # the quota is per class


@dataclass(frozen=True)
class Config:
    memory: int = 100  # images in all; the field uses 40, 100 and 300
    per_class: int = 0  # images of every class seen instead, so that the memory grows; 0: `memory` in all

    @classmethod
    def tiny(cls) -> "Config":
        return cls(memory=12)


def build(config: Config, setup: Setup) -> Strategy:
    return setup.strategy([Replay(config)])


class Replay(Plugin):
    """A memory of real images with an equal quota per class."""

    def __init__(self, config: Config):
        super().__init__()
        self.memory = Quota(config.memory, config.per_class)  # (3, H, W) uint8

    def after_train_dataset_adaptation(self, strategy, **_):
        """Train this step on the memory too."""
        if len(self.memory):
            strategy.rehearse(normal_images(self.memory.items()))

    def after_training_exp(self, strategy, **_):
        """Keep a random choice of the new classes and make room for it."""
        self.memory.admit(by_class(strategy.experience.dataset))

    def state_dict(self) -> dict:
        return {"memory": self.memory.kept}

    def load_state_dict(self, state: dict) -> None:
        self.memory.load_state_dict(state)
