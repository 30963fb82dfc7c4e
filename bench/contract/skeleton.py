"""`bench new`: the file of a method or a detector that keeps the contract as it stands, to be changed from there."""

import keyword
from pathlib import Path

from bench import registry
from bench.errors import BadInput

METHOD = '''"""{title}: say here, in one line, what it does about forgetting."""

from dataclasses import dataclass

from bench.api import Plugin, Setup, Strategy, normal_images

# What it needs and what it is told, where that is more than images: see docs/add-a-method.md.
# DEFAULT_DETECTOR = "reverse_distillation"
# REQUIRES = "gradient"
# CAPABILITIES = ("labels",)


@dataclass(frozen=True)
class Config:
    images: int = 2  # kept of each step; the paper's number stands here, with where it is from

    @classmethod
    def tiny(cls) -> "Config":
        return cls()


def build(config: Config, setup: Setup) -> Strategy:
    return setup.strategy([{name}(config)])


class {name}(Plugin):
    def __init__(self, config: Config):
        super().__init__()
        self.config, self.kept = config, []  # (3, H, W) float images in 0..1

    def after_train_dataset_adaptation(self, strategy, **_):
        """Before a step is trained: what else it is trained on."""
        for image in self.kept:
            strategy.rehearse(normal_images(image[None]))

    def after_training_exp(self, strategy, **_):
        """When a step has been trained: what is kept of it."""
        for number in range(min(self.config.images, len(strategy.experience.dataset))):
            self.kept.append(strategy.experience.dataset[number][0])

    def state_dict(self):  # all that passes from one step to the next: it is counted as carried
        return {{"kept": self.kept}}

    def load_state_dict(self, state):
        self.kept = state["kept"]
'''

DETECTOR = '''"""{title}: say here, in one line, how it tells anomalies."""

from dataclasses import dataclass

import torch

from bench.api import Detector, Prediction, Setup, smooth

TRAITS = ("gradient",)  # methods that train it by its gradient take it; see docs/add-a-detector.md


@dataclass(frozen=True)
class Config:
    width: int = 32  # channels; the paper's numbers stand here, with where they are from
    epochs: int = 20
    batch_size: int = 16
    lr: float = 1e-3

    @classmethod
    def tiny(cls) -> "Config":
        return cls(width=8, epochs=2)


def build(config: Config, setup: Setup) -> Detector:
    return {name}(config)


class {name}(Detector):
    """Restores images through a narrow middle; what it cannot restore is anomalous."""

    def __init__(self, config: Config):
        super().__init__()
        self.config, width = config, config.width
        self.epochs, self.batch_size = config.epochs, config.batch_size
        self.down = torch.nn.Sequential(
            torch.nn.Conv2d(3, width, 4, 2, 1), torch.nn.ReLU(), torch.nn.Conv2d(width, width, 4, 2, 1), torch.nn.ReLU()
        )
        wider = torch.nn.ConvTranspose2d(width, width, 4, 2, 1)
        self.up = torch.nn.Sequential(wider, torch.nn.ReLU(), torch.nn.ConvTranspose2d(width, 3, 4, 2, 1))

    def optimizer(self):
        return torch.optim.Adam(self.parameters(), self.config.lr)

    def response(self, image):
        """What methods keep from drifting: parts of (B, ...)."""
        return [self.down(image)]

    def loss(self, image):
        """Of images (B, 3, H, W) in 0..1, all normal."""
        return (self.up(self.down(image)) - image).square().mean()

    def predict(self, image):
        """Scores (B,) and maps (B, 1, H, W), higher is more anomalous."""
        errors = smooth((self.up(self.down(image)) - image).square().mean(1, keepdim=True), 2)
        return Prediction(errors.amax((1, 2, 3)), errors)
'''


def write_skeleton(kind: str, name: str, folder: Path) -> Path:
    """Write `folder`/`name`.py; returns it.

    Raises:
        BadInput: for a name that is no Python name or is taken, and where such a file is there already.
    """
    file = folder / f"{name}.py"
    if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
        raise BadInput(f"{name!r} cannot be the name of a {kind}: give a Python name, such as {kind}_of_mine")
    if name in registry.found_entries(kind):
        raise BadInput(f"there is a {kind} {name!r} already: give another name")
    if file.exists():
        raise BadInput(f"{file} is there already: give another name, or move it")
    words = name.split("_")
    text = METHOD if kind == "method" else DETECTOR
    file.write_text(text.format(title=" ".join(words).capitalize(), name="".join(word.capitalize() for word in words)))
    return file
