"""Replay beside a bank that is carried on and thinned: "PatchCore + 100 images", the baseline of DINOSaur's paper.

Weatherly and Lin, arXiv:2605.24251: 100 images of each earlier class join the new ones, the features of all of them
join the bank kept so far, and greedy k-centre keeps 5 % of everything, so that old classes live on the replayed images.
Here "everything" is the old bank and what the detector hands over, which its own coreset may have thinned before.
Kept between steps: the images as uint8 and the bank.
"""

from dataclasses import dataclass

from bench.api import Setup, Strategy
from methods import replay
from methods.cadic import CarriedBank

DEFAULT_DETECTOR = "patchcore"
REQUIRES = "memory_bank"
CAPABILITIES = ("labels",)  # the quota is per class


@dataclass(frozen=True)
class Config:
    per_class: int = 100  # images of every class seen
    share: float = 0.05  # of the features at hand that the bank keeps
    least: int = 500  # features that it keeps at any rate

    @classmethod
    def tiny(cls) -> "Config":
        return cls(per_class=2)


def build(config: Config, setup: Setup) -> Strategy:
    def size(features: int) -> int:
        return max(config.least, int(config.share * features))

    memory = replay.Replay(replay.Config(per_class=config.per_class))
    return setup.strategy([memory, CarriedBank(setup.detector, size)])
