"""Cumulative training: every step trains on all images so far. A bound that pays with memory and time.

The detector goes on from where it is. Kept between steps: all training images as uint8.
"""

import torch

from bench.api import Plugin, Setup, Strategy, normal_images
from methods import finetune

CAPABILITIES = ("unlimited_memory",)  # it keeps every image

Config = finetune.Config


def build(config: Config, setup: Setup) -> Strategy:
    return setup.strategy([WholePast()])


class WholePast(Plugin):
    """Keeps every image and trains on it again; old and new weigh by their numbers."""

    def __init__(self):
        super().__init__()
        self.images = torch.empty(0, dtype=torch.uint8)  # (N, 3, H, W)

    def after_train_dataset_adaptation(self, strategy, **_):
        """Put all images so far in place of the new ones."""
        if len(self.images):
            strategy.adapted_dataset = strategy.adapted_dataset.concat(normal_images(self.images))

    def after_training_exp(self, strategy, **_):
        """Keep the new images too."""
        new = [image.mul(255).round().byte() for image, *_ in strategy.experience.dataset]
        self.images = torch.cat([*self.images[:, None], *(image[None] for image in new)])

    def state_dict(self) -> dict:
        return {"images": self.images}

    def load_state_dict(self, state: dict) -> None:
        self.images = state["images"].cpu()
