"""A small trial of a plugin: three rendered classes in three steps, small networks, few epochs, every stage."""

from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from bench import registry
from bench.data import Arrays, load_arrays, rows_of
from bench.registry import Entry
from bench.schema.config import resolve
from bench.schema.request import BackboneSpec, Weights
from bench.schema.stream import Stream
from bench.training.detector import Detector
from bench.training.experiences import TestExperience, TrainImages, train_experience
from bench.training.seeding import seed_everything, seed_for, untouched_draws
from bench.training.setup import Setup
from bench.training.strategy import Strategy

CLASSES = ("gear", "wood", "board")
IMAGES = {"train": 12, "good": 6, "anomalous": 6}  # of each class
STREAM = Stream("synthetic/trial", 1, "synthetic", tuple((name,) for name in CLASSES), 64, IMAGES, "rendered")
RANDOM = BackboneSpec("test_resnet", Weights("random", "seed 0"))
RANDOM_VIT = BackboneSpec("test_vit", Weights("random", "seed 0"))
QUICK = {"epochs": 2, "steps": 5, "replays": 4, "every": 12}  # as little as still runs every stage


@dataclass(frozen=True)
class Trial:
    """A plugin and what it is tried on; `trained` is made once, and never changed by a rule."""

    entry: Entry
    arrays: Arrays
    folder: Path  # an empty one, for results and the cache
    plugins: tuple[Path, ...] = ()

    @cached_property
    def pair(self) -> tuple[Entry, Entry]:
        """Method and detector: fine-tuning around a detector, a method around its default one."""
        if self.entry.kind == "detector":
            return registry.find_entry("method", "finetune", self.plugins), self.entry
        default = registry.default_detector(self.entry, self.plugins)
        return self.entry, registry.find_entry("detector", default, self.plugins)

    @cached_property
    def trained(self) -> tuple[Strategy, dict[str, Tensor]]:
        """The pair after two steps, ready to predict, and the detector's state before them."""
        strategy = build_trial(*self.pair)
        before = {name: value.clone() for name, value in strategy.model.state_dict().items()}
        train(strategy, self.arrays, method=self.pair[0], last=2)
        strategy.model.eval()
        return strategy, before

    @cached_property
    def images(self) -> Tensor:
        """A few test images (B, 3, H, W) of the first two classes, in 0..1."""
        return test_images(self.arrays, [0, 1])[::3]


def rendered_arrays(cache: Path) -> Arrays:
    """The images of the trial's stream."""
    return load_arrays(STREAM, None, STREAM.image_size, cache)[0]


def test_images(arrays: Arrays, columns: list[int]) -> Tensor:
    """All test images of classes, (B, 3, H, W) in 0..1."""
    rows = rows_of(arrays, columns, train=False)
    return torch.from_numpy(arrays.images[rows]).movedim(-1, 1).float() / 255


test_images.__test__ = False  # not a test case, whatever its name


def setup_for(detector: Entry, *, size: int = 64, seed: int = 0) -> Setup:
    """A setup with random weights of a network of the kind that the detector declares."""
    preferred = detector.declared["BACKBONE"]
    return Setup(size, seed, "cpu", preferred and (RANDOM_VIT if "vit" in preferred else RANDOM))


def quick(entry: Entry) -> dict[str, int]:
    """The options of an entry that make it quick."""
    known = {field.name for field in fields(entry.load().Config)}
    return {name: value for name, value in QUICK.items() if name in known}


def config_of(entry: Entry):
    """The tiny configuration, with few epochs where it has any."""
    return resolve(entry.name, entry.load(), "tiny", quick(entry))


def build_trial(method: Entry, detector: Entry, *, seed: int = 0) -> Strategy:
    """A strategy ready to train."""
    setup = setup_for(detector, seed=seed)

    def fresh(seed: int) -> Detector:
        with untouched_draws():
            seed_everything(seed_for(seed, "detector"))
            return detector.load().build(config_of(detector), setup)

    built = fresh(seed)
    seed_everything(seed_for(seed, "method"))
    return method.load().build(config_of(method), replace(setup, detector=built, fresh=fresh))


def train(
    strategy: Strategy, arrays: Arrays, *, method: Entry, stream: Stream = STREAM, first: int = 0,
    last: int | None = None, seed: int = 0,
) -> SimpleNamespace:  # fmt: skip
    """Train steps `first` to `last` (exclusive); returns the experiences."""
    capabilities = method.declared["CAPABILITIES"]
    made = experiences(stream, arrays, labels="labels" in capabilities, ahead="reads_ahead" in capabilities)
    for t in range(first, len(stream.steps) if last is None else last):
        seed_everything(seed_for(seed, "train", t))
        strategy.train(made.train_stream[t], eval_streams=[])
    return made


def experiences(stream: Stream, arrays: Arrays, *, labels: bool = False, ahead: bool = False) -> SimpleNamespace:
    """`train_stream`, one per step, and `test_stream`, one per class, each with its class told."""
    column = {name: index for index, name in enumerate(stream.classes)}
    sets = []
    for step in stream.steps:
        rows = rows_of(arrays, [column[name] for name in step], train=True)
        sets.append(TrainImages(np.array(arrays.images[rows]), arrays.categories[rows] if labels else None))
    train = [train_experience(sets if ahead else [one], t, ahead=ahead) for t, one in enumerate(sets)]
    return SimpleNamespace(train_stream=train, test_stream=[shown(arrays, [c], c) for c in range(len(column))])


def shown(arrays: Arrays, columns: list[int], category: int | None = None) -> TestExperience:
    """The test images of classes, in batches of 32."""
    images = np.array(arrays.images[rows_of(arrays, columns, train=False)])
    return TestExperience([images[at : at + 32] for at in range(0, len(images), 32)], category)
