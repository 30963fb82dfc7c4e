"""One-for-More: gradient projection on latent diffusion under an anomaly-masked condition, as published.

Li et al., One-for-More: Continual Diffusion Model for Anomaly Detection, arXiv:2502.19848. `gradient_projection` with
the paper's two choices: an iterative SVD, and gradients projected rather than steps. At paper size the former takes
weeks (some 50 to 100 TFLOP an image); `--set one_for_more.route=gram` comes to the span of one SVD of all images.

Control: `--set one_for_more.project=none` holds what has no basis and projects nothing.

`--set one_for_more.as_released=true` does as the released code, the detector `amn_diffusion` included:
- bases grow by columns that are not orthonormal (`literal`): the residual's first ones, where Saha et al. append its
  singular vectors, so that what is taken from a gradient is no projection;
- bases end one vector short of the energy asked for (`rank=below`).
Not taken over: the epoch with the best result on the test set is kept, and an AUROC below .5 is turned round.
"""

from dataclasses import dataclass

from methods import gradient_projection

DEFAULT_DETECTOR = "amn_diffusion"
REQUIRES = "masked_condition"
AS_RELEASED = {"literal": True, "rank": "below"}

build = gradient_projection.build


@dataclass(frozen=True)
class Config(gradient_projection.Config):
    project: str = "gradient"  # as published
    route: str = "isvd"  # as published

    @classmethod
    def tiny(cls) -> "Config":
        return cls(every=8)  # each image takes an SVD per layer
