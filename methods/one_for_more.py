"""One-for-More: gradient projection on latent diffusion under an anomaly-masked condition, as published.

Li et al., One-for-More: Continual Diffusion Model for Anomaly Detection, arXiv:2502.19848. `gradient_projection` with
the paper's two choices: an iterative SVD, and gradients projected rather than steps.
"""

from dataclasses import dataclass

from methods import gradient_projection

DEFAULT_DETECTOR = "amn_diffusion"
REQUIRES = "masked_condition"

build = gradient_projection.build


@dataclass(frozen=True)
class Config(gradient_projection.Config):
    project: str = "gradient"  # as published
    route: str = "isvd"  # as published
