"""CL-PatchCore: one small bank per step instead of one for all; an image goes to the bank nearest to it.

Bugarin et al., Unveiling the Anomalies in an Ever-Changing World, arXiv:2403.15463, section on PatchCore.
Kept between steps: `patches` features in all, shared equally by the steps seen.
"""

from dataclasses import dataclass

from torch import Tensor

from bench.api import Plugin, Setup, Strategy

DEFAULT_DETECTOR = "patchcore"
REQUIRES = "memory_bank"


@dataclass(frozen=True)
class Config:
    patches: int = 30_000  # features of all banks together; the paper has 10,000 to 30,000

    @classmethod
    def tiny(cls) -> "Config":
        return cls(patches=1_800)


def build(config: Config, setup: Setup) -> Strategy:
    return setup.strategy([BankPerStep(config, setup.detector)])


class BankPerStep(Plugin):
    """Banks of equal size, each thinned as others join; the detector routes by the lowest mean distance."""

    def __init__(self, config: Config, detector):
        super().__init__()
        self.config, self.detector = config, detector
        self.banks: list[Tensor] = []  # one (n, D) per step

    def after_training_exp(self, strategy, **_):
        """Take the new bank over and thin every bank to its share."""
        self.banks.append(self.detector.take_bank())
        share = max(1, self.config.patches // len(self.banks))
        self.banks = [self.detector.thin(bank, share) for bank in self.banks]
        self.detector.route_to(self.banks)

    def state_dict(self) -> dict:
        return {"banks": self.banks}

    def load_state_dict(self, state: dict) -> None:
        self.banks = state["banks"]
        self.detector.route_to(self.banks)
