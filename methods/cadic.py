"""CADIC: one bank for all steps, in which a coreset of the old bank and the new features replaces the old bank.

Yang et al., CADIC: Continual Anomaly Detection Based on Incremental Coreset, arXiv:2511.08634. Greedy k-centre over
the union keeps at most `patches` features, whatever the step they are from; no labels, no task identity. The exact
update was not readable; this is what title and abstract force. `reservoir` keeps a uniform choice instead, an equal
share of every step, and so tells whether the coreset matters or the bank. Kept between steps: the bank.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.api import Detector, Plugin, Setup, Strategy

DEFAULT_DETECTOR = "token_bank"
REQUIRES = "memory_bank"


@dataclass(frozen=True)
class Config:
    patches: int = 10_000  # features of the bank
    reservoir: bool = False  # chosen uniformly instead of by greedy k-centre

    @classmethod
    def tiny(cls) -> "Config":
        return cls(patches=1_000)


def build(config: Config, setup: Setup) -> Strategy:
    if config.reservoir:
        return setup.strategy([Reservoir(setup.detector, config.patches)])
    return setup.strategy([CarriedBank(setup.detector, lambda _: config.patches)])


class CarriedBank(Plugin):
    """A bank that goes on through all steps, thinned after each to `size` of the number of features at hand."""

    def __init__(self, detector: Detector, size: Callable[[int], int]):
        super().__init__()
        self.detector, self.size = detector, size
        self.bank = torch.empty(0)  # (n, D)

    def after_training_exp(self, strategy, **_):
        """Thin the old bank and the new features together."""
        new = self.detector.take_bank()
        both = torch.cat([self.bank.to(new.device), new]) if len(self.bank) else new
        self.bank = self.detector.thin(both, self.size(len(both)))
        self.detector.judge_by(self.bank)

    def state_dict(self) -> dict:
        return {"bank": self.bank}

    def load_state_dict(self, state: dict) -> None:
        self.bank = state["bank"]
        self.detector.judge_by(self.bank)


def uniform(points: Tensor, count: int) -> Tensor:
    """At most `count` rows of `points` (n, D), any choice as likely as any other."""
    return points[torch.randperm(len(points), device=points.device)[:count]]


class Reservoir(CarriedBank):
    """A bank in which every step has an equal share, chosen uniformly."""

    def __init__(self, detector: Detector, patches: int):
        super().__init__(detector, lambda _: patches)
        detector.choose = uniform
        self.patches, self.steps = patches, 0

    def after_training_exp(self, strategy, **_):
        """Make room for the share of the new step, and fill it."""
        new = self.detector.take_bank()
        self.steps += 1
        share = self.patches // self.steps
        old = uniform(self.bank.to(new.device), self.patches - share) if self.steps > 1 else new[:0]
        self.bank = torch.cat([old, uniform(new, share)])
        self.detector.judge_by(self.bank)

    def state_dict(self) -> dict:
        return {"bank": self.bank, "steps": self.steps}

    def load_state_dict(self, state: dict) -> None:
        super().load_state_dict(state)
        self.steps = state["steps"]
