"""DDAD in a stream: its diffusion model and its features are simply trained on, class after class.

Mousakhan, Brox and Tayyub, arXiv:2305.15956, has no continual part: this is fine-tuning of a detector that
reconstructs by conditioned diffusion. Alone, as in the paper, it is `single`.
"""

from methods import finetune

DEFAULT_DETECTOR = "ddad"
REQUIRES = "conditioned_diffusion"

Config = finetune.Config
build = finetune.build
