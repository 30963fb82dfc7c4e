"""Joint training: every class at once, during the first step. A reference, not a continual method."""

from bench.api import Plugin, Setup, Strategy
from methods import finetune

CAPABILITIES = ("reads_ahead",)

Config = finetune.Config


def build(config: Config, setup: Setup) -> Strategy:
    return setup.strategy([WholeStream()])


class WholeStream(Plugin):
    """The one plugin that may look ahead. That is no upper bound: what sees classes one by one may end higher."""

    def after_train_dataset_adaptation(self, strategy, **_):
        """Put the images of all steps in place of the first one's."""
        first, *rest = (experience.dataset.train() for experience in strategy.experience.origin_stream)
        strategy.adapted_dataset = sum(rest, first)

    def before_training_exp(self, strategy, **_):
        """Learn nothing more after the first step."""
        if strategy.experience.current_experience > 0:
            strategy.stop_training()
