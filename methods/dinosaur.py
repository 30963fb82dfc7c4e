"""DINOSaur: the position-indexed banks of every step stay as they are; the class token says whose an image is.

Weatherly and Lin, Rethinking Continual Anomaly Detection, arXiv:2605.24251. An image goes to the step whose mean class
token is nearest. Nothing of an earlier step is touched, so only wrong routes can forget. A step of several classes
has one mean and one bank, for which the paper says nothing. Kept between steps: a mean class token and a bank per step.
"""

from bench.api import Setup, Strategy
from methods import finetune
from methods._routing import MemoryPerStep

DEFAULT_DETECTOR = "position_bank"
REQUIRES = "position_bank"

Config = finetune.Config


def build(config: Config, setup: Setup) -> Strategy:
    return setup.strategy([MemoryPerStep(setup.detector)])
