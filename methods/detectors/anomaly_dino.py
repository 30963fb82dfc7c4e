"""AnomalyDINO: a bank of DINOv2's last tokens under cosine distance; the image score is the mean of the worst 1 %.

Damm et al., AnomalyDINO: Boosting Patch-Based Few-Shot Anomaly Detection with DINOv2, arXiv:2405.14529. A preset of
`token_bank`, without the masking of the background and the rotations, which the paper chooses per class.
"""

from dataclasses import dataclass

from bench.api import Detector, Setup
from methods.detectors import token_bank

TRAITS = ("memory_bank",)
BACKBONE = "vit_small_patch14_dinov2.lvd142m"


@dataclass(frozen=True)
class Config(token_bank.Config):
    blocks: tuple[int, ...] = (-1,)  # the last
    norm: bool = True  # its tokens as the class token of DINOv2 has them
    distance: str = "cosine"  # one minus the cosine
    head: str = "top_patches"  # the mean of the largest 1 %
    side: int = 448  # px, as the paper's smaller edge

    @classmethod
    def tiny(cls) -> "Config":
        return cls(patches=1_000, candidates=5_000, side=0, sigma=1.5)


def build(config: Config, setup: Setup) -> Detector:
    return token_bank.TokenBank(config, setup)
