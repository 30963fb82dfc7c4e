"""DDAD-S: DDAD with half the channels and dropout, a quarter of its parameters."""

from dataclasses import dataclass, replace

from methods.detectors import ddad

TRAITS = ("gradient", "conditioned_diffusion")
BACKBONE = "wide_resnet101_2.tv_in1k"
AS_RELEASED = {
    "noised_one_step_more": True, "pairs_at_random": True, "drop_last": True, "crop": 0.875, "precision": "fp32",
}  # fmt: skip

build = ddad.build


@dataclass(frozen=True)
class Config(ddad.Config):
    """What differs from DDAD."""

    batch_size: int = 16
    width: int = 32  # channels of the first level
    heads: int = 2  # of the attention, at every level
    dropout: float = 0.3  # within residual blocks

    @classmethod
    def tiny(cls) -> "Config":
        return replace(super().tiny(), width=8, groups=4, dropout=0.3)
