"""GCR: a few prototypes per step that never change; random places of an image choose whose they are.

Chae et al., Geometry-Consistent Routing for Task-Agnostic Continual Anomaly Detection, arXiv:2601.01856. An image goes
to the step with the smallest sum of squared distances over `positions` places. The authors draw them anew for every
batch, which makes scores depend on the batch; here they are drawn once from the run's seed. Their scores are
`--set token_bank.blocks=6, .energy=16, .head=top_pixels, .sigma=0` on `vit_base_patch16_clip_224`.
Kept between steps: `prototypes` features per step; a step of several classes has as many as a step of one.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from bench.api import Setup, Strategy
from methods._routing import MemoryPerStep

DEFAULT_DETECTOR = "token_bank"
REQUIRES = "memory_bank"


@dataclass(frozen=True)
class Config:
    prototypes: int = 196  # of a step, by greedy k-centre
    positions: int = 32  # places of an image that route it; 0: all

    @classmethod
    def tiny(cls) -> "Config":
        return cls(prototypes=98, positions=16)


def build(config: Config, setup: Setup) -> Strategy:
    return setup.strategy([Prototypes(config, setup)])


def sum_of_squares(distances: Tensor, *, positions: int, seed: int) -> Tensor:
    """How far images are from a step's prototypes, by `positions` of their places' distances (..., places)."""
    places = torch.randperm(distances.shape[-1], generator=torch.Generator().manual_seed(seed))
    return distances[..., places[: positions or None].to(distances.device)].square().sum(-1)


class Prototypes(MemoryPerStep):
    """The prototypes of every step, and the rule that routes between them."""

    def __init__(self, config: Config, setup: Setup):
        rule = partial(sum_of_squares, positions=config.positions, seed=setup.seed)
        super().__init__(setup.detector, partial(setup.detector.route_to, rule=rule))
        self.config = config

    def after_training_exp(self, strategy, **_):
        """Thin what the detector has learned to prototypes, and keep those for good."""
        self.memories.append(self.detector.thin(self.detector.take_bank(), self.config.prototypes))
        self.route(self.memories)
