"""Replay: a few stored images of every class seen are trained on again beside the new ones.

Robins 1995; Chaudhry et al., On Tiny Episodic Memories in Continual Learning, arXiv:1902.10486.
Kept between steps: `memory` images as uint8, shared equally by the classes seen.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from bench.api import Plugin, Setup, Strategy, normal_images

CAPABILITIES = ("labels",)  # the quota is per class


@dataclass(frozen=True)
class Config:
    memory: int = 100  # images in all; the field uses 40, 100 and 300

    @classmethod
    def tiny(cls) -> "Config":
        return cls(memory=12)


def build(config: Config, setup: Setup) -> Strategy:
    return setup.strategy([Replay(config)])


class Replay(Plugin):
    """A memory of real images with an equal quota per class."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.memory: dict[int, Tensor] = {}  # class -> (n, 3, H, W) uint8

    def after_train_dataset_adaptation(self, strategy, **_):
        """Train this step on the memory too."""
        if self.memory:
            strategy.rehearse(normal_images(torch.cat(list(self.memory.values()))))

    def after_training_exp(self, strategy, **_):
        """Keep a random choice of the new classes and make room for it."""
        by_class: dict[int, list[Tensor]] = {}
        for image, _mask, _label, category in strategy.experience.dataset:
            by_class.setdefault(category, []).append(image.mul(255).round().byte())
        quota = max(1, self.config.memory // (len(self.memory) + len(by_class)))
        for category, images in by_class.items():
            chosen = torch.randperm(len(images))[:quota].tolist()
            self.memory[category] = torch.stack([images[i] for i in chosen])
        self.memory = {category: images[:quota] for category, images in self.memory.items()}

    def state_dict(self) -> dict:
        return {"memory": self.memory}

    def load_state_dict(self, state: dict) -> None:
        self.memory = {category: images.cpu() for category, images in state["memory"].items()}
