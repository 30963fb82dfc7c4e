"""DeCoFlow: a flow learned at the first step and then frozen; each later step learns adapters, and images are routed.

DeCoFlow, arXiv:2606.26687. An image goes to the step whose averaged features it is nearest to by Mahalanobis distance.
Nothing of an earlier step is touched, so only wrong routes can forget. A step of several classes has one set of
adapters and one router. Kept between steps: adapters, mean and inverse covariance per step.
"""

from bench.api import Setup, Strategy
from methods import finetune
from methods._routing import MemoryPerStep

DEFAULT_DETECTOR = "decoupled_flow"
REQUIRES = "task_adapters"

Config = finetune.Config


def build(config: Config, setup: Setup) -> Strategy:
    return setup.strategy([AdaptersPerStep(setup.detector)])


class AdaptersPerStep(MemoryPerStep):
    """The adapters and the router of every step."""

    def after_train_dataset_adaptation(self, strategy, **_):
        """From the second step on, freeze the base and start adapters of the step's own, before the optimizer is."""
        if self.memories:
            self.detector.begin_task()
