"""UCAD: a key, a prompt and a bank per step; an image goes to the step whose key its tokens lie nearest to.

Liu et al., Unsupervised Continual Anomaly Detection with Contrastively-Learned Prompt, arXiv:2401.01010. As the paper
intends: each image is routed on its own, and the last epoch counts (the released code takes the best on the test set).
The prompt of a step starts from that of the one before. A step of several classes has one triple.
Kept between steps: the triples.

Control: `--set prompted_bank.prompts=false` leaves keyed banks.
"""

from bench.api import Setup, Strategy
from methods import finetune
from methods._routing import MemoryPerStep

DEFAULT_DETECTOR = "prompted_bank"
REQUIRES = "keyed_bank"

Config = finetune.Config


def build(config: Config, setup: Setup) -> Strategy:
    return setup.strategy([MemoryPerStep(setup.detector)])
