"""Degenerative compressed replay: SCALE's thumbnails, shrunk again at each step from what was made of them.

The comparison of Dalle Pezze et al., arXiv:2212.11192: what it costs to keep decodes in place of first thumbnails.
"""

import torch
from torch import Tensor

from bench.api import Setup, Strategy
from methods._quota import as_bytes
from methods._superresolution import Options as Config
from methods.scale import CompressedReplay

__all__ = ["Config", "build"]

DEFAULT_DETECTOR = "inpaint"
CAPABILITIES = ("labels",)  # the quota is per class


def build(config: Config, setup: Setup) -> Strategy:
    return setup.strategy([DegenerativeReplay(config, setup)])


class DegenerativeReplay(CompressedReplay):
    """A memory that goes through its codec once a step."""

    def admit(self) -> None:
        """Replace what is kept of the past by its decode, then let the thumbnails of the step in."""
        self.memory.kept = {category: self._again(items) for category, items in self.memory.kept.items()}
        super().admit()

    def _again(self, thumbnails: Tensor) -> Tensor:
        return self.codec.shrink(self.codec.decode(thumbnails))

    @torch.no_grad()
    def exhibits(self, images: Tensor, step: int) -> dict[str, Tensor]:
        """As for SCALE, after as many rounds as there were steps; the generator of today stands for those before it."""
        thumbnails = self.codec.shrink(as_bytes(images))
        for _ in range(self.steps - 1 - step):
            thumbnails = self._again(thumbnails)
        return {"thumbnail": thumbnails / 255, "decode": self.codec.decode(thumbnails) / 255}
