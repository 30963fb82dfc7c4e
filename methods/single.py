"""One model per step, and at test time the right one is given. The bound with a task oracle.

Each step starts from the same untrained detector. Kept between steps: that start and every trained detector, without
the weights that never change (the frozen backbone).
"""

from torch import Tensor

from bench.api import Detector, Plugin, Setup, Strategy
from methods import finetune

CAPABILITIES = ("task_oracle", "labels")  # it must know which step the class of a test image belongs to

Config = finetune.Config


def build(config: Config, setup: Setup) -> Strategy:
    return setup.strategy([ModelPerStep(setup.detector)])


class ModelPerStep(Plugin):
    """Stores a trained detector per step and brings it back when one of its classes is evaluated."""

    def __init__(self, detector: Detector):
        super().__init__()
        self.detector = detector
        self.untrained = changeable(detector)
        self.trained: list[dict[str, Tensor]] = []  # one state per step
        self.step_of: dict[int, int] = {}  # class -> step

    def before_training_exp(self, strategy, **_):
        """Start from nothing."""
        self._recall(self.untrained)

    def before_forward(self, strategy, **_):
        """Note which classes this step has."""
        self.step_of.update(dict.fromkeys(strategy.mbatch.category.tolist(), len(self.trained)))

    def after_training_exp(self, strategy, **_):
        """Keep the trained detector."""
        self.trained.append(changeable(self.detector))

    def before_eval_exp(self, strategy, **_):
        """Bring back the detector of the class that is evaluated next."""
        self._recall(self.trained[self.step_of[strategy.experience.current_experience]])

    def _recall(self, state: dict[str, Tensor]) -> None:
        self.detector.load_state_dict(self.detector.state_dict() | state)

    def state_dict(self) -> dict:
        return {"untrained": self.untrained, "trained": self.trained, "step_of": self.step_of}

    def load_state_dict(self, state: dict) -> None:
        self.untrained, self.trained, self.step_of = state["untrained"], state["trained"], state["step_of"]


def changeable(detector: Detector) -> dict[str, Tensor]:
    """Return a copy of a detector's state without its frozen weights."""
    frozen = {name for name, weight in detector.named_parameters() if not weight.requires_grad}
    return {name: value.clone() for name, value in detector.state_dict().items() if name not in frozen}
