"""Latent replay: codes of past images are kept, and what the detector's own decoder makes of them is trained on again.

The comparison of Dalle Pezze et al., arXiv:2212.11192, with the codes really used (the authors' program stores them,
but encodes its last decodes anew instead). Kept between steps: `memory` codes as float32, shared equally by the
classes seen; each stays as it was taken, whatever encoder and decoder learn afterwards.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from bench.api import Plugin, Setup, Strategy, normal_images
from methods._quota import Quota, as_bytes, by_class
from methods._without_trace import without_trace

DEFAULT_DETECTOR = "vae"
REQUIRES = "latent"
CAPABILITIES = ("labels",)  # the quota is per class


@dataclass(frozen=True)
class Config:
    memory: int = 100  # codes in all, as many as `replay` has images

    @classmethod
    def tiny(cls) -> "Config":
        return cls(memory=12)


def build(config: Config, setup: Setup) -> Strategy:
    return setup.strategy([LatentReplay(config, setup)])


class LatentReplay(Plugin):
    """A memory of codes; `encode` and `decode` are the detector's, as it is at the time."""

    def __init__(self, config: Config, setup: Setup):
        super().__init__()
        self.detector, self.device = setup.detector, setup.device
        self.memory = Quota(config.memory)  # what `encode` gives of an image, float32

    def after_train_dataset_adaptation(self, strategy, **_):
        """Train this step on what the decoder, as the step begins, makes of the memory too."""
        if len(self.memory):
            strategy.rehearse(normal_images(self._decoded(self.memory.items())))

    def after_training_exp(self, strategy, **_):
        """Keep the codes of a random choice of the new classes and make room for them."""
        images = by_class(strategy.experience.dataset)
        self.memory.admit({category: self._codes(found / 255) for category, found in images.items()})

    @torch.no_grad()
    def _codes(self, images: Tensor) -> Tensor:
        with without_trace(self.detector):
            parts = [self.detector.encode(part.to(self.device)) for part in images.split(self.detector.batch_size)]
        return torch.cat(parts).float().cpu()

    @torch.no_grad()
    def _decoded(self, codes: Tensor) -> Tensor:
        with without_trace(self.detector):
            parts = [self.detector.decode(part.to(self.device)) for part in codes.split(self.detector.batch_size)]
        return torch.cat([as_bytes(part) for part in parts])

    def recall(self) -> dict[int, tuple[Tensor, Tensor]]:
        return self.memory.recalled(self._decoded(self.memory.items()))

    def report(self) -> dict[str, float]:
        """Bytes kept for the images; the decoder is the detector's own."""
        return {"payload_bytes": self.memory.items().nbytes}

    def exhibits(self, images: Tensor, step: int) -> dict[str, Tensor]:
        """What becomes of images (n, 3, H, W) in 0..1; the encoder of today stands for the one that took the codes."""
        return {"decode": self._decoded(self._codes(images)) / 255}

    def state_dict(self) -> dict:
        return self.memory.state_dict()

    def load_state_dict(self, state: dict) -> None:
        self.memory.load_state_dict(state)
