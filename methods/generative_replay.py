"""Generative replay: what the detector's own decoder makes of noise is trained on again beside the new images.

Shin et al., Continual Learning with Deep Generative Replay, arXiv:1705.08690, with the detector as its own generator,
as in Dalle Pezze et al., arXiv:2212.11192. Nothing is kept between steps.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from bench.api import Plugin, Setup, Strategy, normal_images
from methods._quota import as_bytes
from methods._without_trace import without_trace

DEFAULT_DETECTOR = "vae"
REQUIRES = "sampling"


@dataclass(frozen=True)
class Config:
    samples: int = 100  # images made at the beginning of a step, as many as `replay` keeps

    @classmethod
    def tiny(cls) -> "Config":
        return cls(samples=12)


def build(config: Config, setup: Setup) -> Strategy:
    return setup.strategy([GenerativeReplay(config, setup)])


class GenerativeReplay(Plugin):
    """Samples of the detector as the step begins stand for the past."""

    def __init__(self, config: Config, setup: Setup):
        super().__init__()
        self.samples, self.detector = config.samples, setup.detector

    def after_train_dataset_adaptation(self, strategy, **_):
        """Train this step on samples too."""
        if strategy.experience.current_experience:
            strategy.rehearse(normal_images(self._drawn(self.samples)))

    @torch.no_grad()
    def _drawn(self, count: int) -> Tensor:
        with without_trace(self.detector):
            return as_bytes(self.detector.sample(count))

    def recall(self) -> dict[int, tuple[Tensor, None]]:
        return {-1: (self._drawn(self.samples), None)}  # of no class in particular, and of no image

    def exhibits(self, images: Tensor, step: int) -> dict[str, Tensor]:
        """As many samples as there are images: they stand for no class in particular."""
        return {"sample": self._drawn(len(images)) / 255}
