"""Detectors of a few weights on a stream of a few noisy images: for tests that check a method by hand."""

import io
import random

import numpy as np
import torch
from given import experiences
from torch import Tensor, nn

from bench.api import Detector, Prediction, Setup, freeze, trainable
from bench.data import Arrays
from bench.schema.stream import Stream
from bench.training.seeding import seed_everything, seed_for, untouched_draws

SIZE = 8  # px
IMAGES = 12  # per class and split
STREAM = Stream("toy/1x3", 1, "none", (("a",), ("b",), ("c",)), SIZE, {}, "tests")


def arrays(stream: Stream = STREAM) -> Arrays:
    """Classes of different colours; half of the images are for training."""
    classes = len(stream.classes)
    rng = np.random.default_rng(0)
    count = 2 * IMAGES * classes
    categories = np.repeat(np.arange(classes), 2 * IMAGES)
    images = rng.integers(0, 120, (count, SIZE, SIZE, 3)) + 40 * (categories + 1)[:, None, None, None] * (1, 0, 0.5)
    train = np.tile(np.arange(2 * IMAGES) < IMAGES, classes)
    labels = np.where(train, 0, np.arange(count) % 2)
    return Arrays(images.clip(0, 255).astype(np.uint8), np.zeros((count, SIZE, SIZE), bool), labels, categories, train)


class Noisy(Detector):
    """An auto-encoder with everything that can leave a trace: batch norm, dropout, three generators, a frozen part."""

    epochs, batch_size = 3, 4

    def __init__(self):
        super().__init__()
        self.frozen = freeze(nn.Conv2d(3, 3, 1))
        self.norm = nn.BatchNorm2d(4)
        self.net = nn.Sequential(nn.Conv2d(3, 4, 3, 1, 1), self.norm, nn.ReLU(), nn.Dropout(0.2), nn.Conv2d(4, 3, 1))
        self.unused = nn.Parameter(torch.ones(2))  # gets no gradient; weight decay would move it if it got a zero one

    def optimizer(self):
        return torch.optim.AdamW(trainable(self), lr=1e-2, weight_decay=0.1)

    def response(self, image: Tensor) -> list[Tensor]:
        made = self.net(self.frozen(image))
        return [made, made.mean((2, 3))]

    def loss(self, image: Tensor) -> Tensor:
        noise = torch.rand_like(image) * np.random.rand() * random.random()
        return (self.response(image + noise)[0] - image).square().mean()

    def predict(self, image: Tensor) -> Prediction:
        error = (self.response(image)[0] - image).square().mean(1, keepdim=True)
        return Prediction(error.amax((1, 2, 3)), error)


class Linear(Detector):
    """loss = mean over images of (w · c - c₀ c₁)², where c (3,) is the mean colour; response = w · c."""

    epochs, batch_size = 2, 5

    def __init__(self, weight=(0.5, -0.3, 0.8)):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))

    def optimizer(self):
        return torch.optim.SGD(self.parameters(), lr=0.3, momentum=0.5)

    def response(self, image: Tensor) -> list[Tensor]:
        return [image.mean((2, 3)) @ self.weight]

    def loss(self, image: Tensor) -> Tensor:
        colour = image.mean((2, 3))
        return (self.response(image)[0] - colour[:, 0] * colour[:, 1]).square().mean()

    def predict(self, image: Tensor) -> Prediction:
        score = self.response(image)[0]
        return Prediction(score, score[:, None, None, None].expand(-1, 1, *image.shape[-2:]))


def strategy(method, detector: type[Detector] = Noisy, *, seed: int = 0, spies=(), **options):
    """The method's module on a fresh detector, with `options` of its Config."""

    def fresh(seed: int) -> Detector:
        with untouched_draws():
            seed_everything(seed_for(seed, "detector"))
            return detector()

    seed_everything(seed_for(seed, "detector"))
    setup = Setup(SIZE, seed, detector=detector(), fresh=fresh)
    built = method.build(method.Config(**options), setup)
    built.plugins[: len(built.methods)] = [*built.methods, *spies]
    return built


def train(built, *, first: int = 0, last: int = 3, labels: bool = False, stream: Stream = STREAM, reseed: bool = False):
    """Train steps `first` to `last`; returns the experiences. `reseed`: per step, as the runner does."""
    made = experiences(stream, arrays(stream), labels=labels)
    for t in range(first, last):
        if reseed:
            seed_everything(seed_for(0, "train", t))
        built.train(made.train_stream[t], eval_streams=[])
    return made


def images(step: int) -> Tensor:
    """The training images (N, 3, H, W) of a step."""
    held = arrays()
    return torch.from_numpy(held.images[held.train & (held.categories == step)]).movedim(-1, 1).float() / 255


def same(one: torch.nn.Module, two: torch.nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def assert_continues(one, two) -> None:
    """Train two steps of `one`, hand its states to `two`, and let both learn the third: they must end alike."""
    train(one, last=2, reseed=True)
    file = io.BytesIO()
    torch.save([one.model.state_dict(), one.methods[0].state_dict()], file)
    file.seek(0)
    detector, plugin = torch.load(file, weights_only=True)
    two.model.load_state_dict(detector)
    two.methods[0].load_state_dict(plugin)
    for built in (one, two):
        train(built, first=2, reseed=True)
    assert same(one.model, two.model)
