"""Trains a detector by `joint` at one class under the bench, then by anomalib on the same batches, and compares."""

import copy
import dataclasses
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from unittest import mock

import numpy as np
import timm
import torch
from given import experiences
from torch import Tensor, nn

from bench import registry
from bench.api import Plugin, Setup
from bench.data import Arrays
from bench.schema.request import IMAGENET_MEAN, IMAGENET_STD, BackboneSpec, Weights
from bench.schema.stream import Stream
from bench.training.detector import Detector
from bench.training.seeding import seed_everything
from methods import joint

Reference = Callable[["Training"], tuple[list[float], dict[str, Tensor]]]


class Training(Plugin):
    """What happened under the bench: each batch with the random state before it, and each loss."""

    def __init__(self, detector: Detector):
        super().__init__()
        self.detector, self.initial = detector, copy.deepcopy(detector)
        self.steps: list[tuple[Tensor, Tensor]] = []  # image (B, 3, H, W) in 0..1, state of the generator
        self.losses: list[float] = []
        self.images: list[Tensor] = []  # the batches that `prepare` saw

    def before_training_epoch(self, strategy, **_):
        self.images = list(strategy.images)

    def before_forward(self, strategy, **_):
        self.steps.append((strategy.mbatch.image.clone(), torch.get_rng_state()))

    def after_update(self, strategy, **_):
        self.losses.append(strategy.loss.item())

    def batches(self) -> Iterator[Tensor]:
        """Yield the batches in the order of training, the generator as it was before each."""
        for image, state in self.steps:
            torch.set_rng_state(state)
            yield image


def assert_same_training(name: str, reference: Reference, *, rtol: float = 1e-5, atol: float = 1e-6, **config) -> None:
    """Compare loss curve and trained weights of detector `name` with those of `reference`.

    `reference(training)` starts from the weights of `training.initial`, goes through `training.batches()` and returns
    its losses and its trained weights by the detector's own parameter names. `config` changes fields of
    `Config.tiny()`.
    """
    training = train(name, **config)
    losses, weights = reference(training)
    assert len(training.losses) >= 3
    torch.testing.assert_close(training.losses, losses, rtol=rtol, atol=atol)
    before = dict(training.initial.named_parameters())
    trained = {key: p for key, p in training.detector.named_parameters() if p.requires_grad}
    assert trained.keys() <= weights.keys()
    assert any(not torch.equal(p, before[key]) for key, p in trained.items())
    for key, parameter in trained.items():
        torch.testing.assert_close(parameter.detach(), weights[key].detach(), rtol=rtol, atol=atol)


def train(name: str, *, pixels: int = 64, backbone: str = "resnet18", **config) -> Training:
    """Train a detector on 8 images of one class for two epochs of batches of 4, unless `config` says otherwise."""
    seed_everything(0)
    module = registry.find_entry("detector", name).load()
    settings = {"epochs": 2, "batch_size": 4} | config
    known = {field.name for field in dataclasses.fields(module.Config)}
    chosen = dataclasses.replace(
        module.Config.tiny(), **{key: settings[key] for key in settings.keys() & known | config.keys()}
    )
    setup = Setup(pixels, 0, backbone=BackboneSpec(backbone, Weights("random")))
    training = Training(module.build(chosen, setup))
    strategy = joint.build(joint.Config(), dataclasses.replace(setup, detector=training.detector))
    strategy.plugins.append(training)
    made = experiences(Stream("test/1", 1, "folder", (("bottle",),), pixels), _arrays(pixels), ahead=True)
    strategy.train(made.train_stream[0], eval_streams=[])
    return training


def _arrays(pixels: int, count: int = 8) -> Arrays:
    noise = np.random.default_rng(0).integers(0, 256, (count, -(-pixels // 8), -(-pixels // 8), 3), dtype=np.uint8)
    images = noise.repeat(8, 1).repeat(8, 2)[:, :pixels, :pixels]
    none = np.zeros(count, dtype=np.int64)
    return Arrays(images, np.zeros(images.shape[:3], bool), none, none, np.ones(count, bool))


def lightning_loop(module, training: Training, *, normalise: bool = True) -> list[float]:
    """Train anomalib's Lightning module by its own `training_step` and `configure_optimizers`; return the losses."""
    module.log = lambda *_, **__: None
    module.train()
    configured = module.configure_optimizers()
    optimizer = configured[0][0] if isinstance(configured, tuple) else configured
    losses = []
    for image in training.batches():
        loss = module.training_step(SimpleNamespace(image=normalised(image) if normalise else image))["loss"]
        optimizer.zero_grad()
        module.backward(loss)
        optimizer.step()
        losses.append(loss.item())
    return losses


def normalised(image: Tensor) -> Tensor:
    """What anomalib's pre-processor makes of (B, 3, H, W) in 0..1."""
    mean, std = (torch.tensor(value).view(1, -1, 1, 1) for value in (IMAGENET_MEAN, IMAGENET_STD))
    return (image - mean) / std


def without_downloads():
    """Let anomalib build its timm backbones without pretrained weights (to be loaded from ours)."""
    create = timm.create_model
    return mock.patch("timm.create_model", lambda *args, **options: create(*args, **options | {"pretrained": False}))


def named(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    """The state of `module` under the name that it has in the detector."""
    return {f"{prefix}{key}": value for key, value in module.state_dict().items()}


# What a Lightning module of anomalib needs not build for a comparison of training.
BARE = {"post_processor": False, "evaluator": False, "visualizer": False}


def assert_judges(name: str, backbone: str, pixels: int) -> None:
    """One epoch on this backbone and image size gives maps of that size and scores that tell images apart."""
    training = train(name, backbone=backbone, pixels=pixels, epochs=1)
    detector, image = training.detector.eval(), training.steps[0][0]
    with torch.no_grad():
        found = detector.predict(image)
    assert found.map.shape == (len(image), 1, pixels, pixels)
    assert found.map.isfinite().all()
    assert found.score.std() > 0
