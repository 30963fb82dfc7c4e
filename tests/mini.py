"""Builds small cells for tests: any method on any detector, tiny, with random weights."""

import dataclasses
from dataclasses import replace

import torch
from given import experiences

from bench import registry, results
from bench.api import Setup
from bench.schema.config import resolve
from bench.schema.request import BackboneSpec, Cell, Request, Weights
from bench.training.seeding import seed_everything, seed_for, untouched_draws

RANDOM = BackboneSpec("test_resnet", Weights("random", "seed 0"))
QUICK = {"epochs": 2, "steps": 5, "replays": 4, "every": 12}  # as little as still runs every stage


def setup_for(detector: registry.Entry, *, size: int = 64, seed: int = 0) -> Setup:
    preferred = detector.declared["BACKBONE"]
    backbone = None if preferred is None else (RANDOM if "vit" not in preferred else vit(preferred))
    return Setup(size, seed, "cpu", backbone)


def vit(name: str) -> BackboneSpec:
    return BackboneSpec("test_vit", Weights("random", "seed 0"))


def config_of(entry: registry.Entry):
    """The tiny configuration, with few epochs where it has any."""
    return resolve(entry.name, entry.load(), "tiny", quick(entry))


def quick(entry: registry.Entry) -> dict:
    """The options of an entry that make it quick."""
    known = {field.name for field in dataclasses.fields(entry.load().Config)}
    return {name: value for name, value in QUICK.items() if name in known}


def build(method: str, detector: str, *, seed: int = 0):
    """A strategy ready to train."""
    method, detector = registry.find("method", method), registry.find("detector", detector)
    setup = setup_for(detector, seed=seed)

    def fresh(seed: int):
        with untouched_draws():
            seed_everything(seed_for(seed, "detector"))
            return detector.load().build(config_of(detector), setup)

    built = fresh(seed)
    seed_everything(seed_for(seed, "method"))
    return method.load().build(config_of(method), replace(setup, detector=built, fresh=fresh))


def train(
    strategy, stream, arrays, *, method: str = "finetune", first: int = 0, last: int | None = None, seed: int = 0
):
    """Train steps `first` to `last`; returns the experiences."""
    capabilities = registry.find("method", method).declared["CAPABILITIES"]
    made = experiences(stream, arrays, labels="labels" in capabilities, ahead="reads_ahead" in capabilities)
    for t in range(first, len(stream.steps) if last is None else last):
        seed_everything(seed_for(seed, "train", t))
        strategy.train(made.train_stream[t], eval_streams=[])
    return made


@torch.no_grad()
def scores(strategy, arrays, rows) -> torch.Tensor:
    strategy.model.eval()
    images = torch.from_numpy(arrays.images[rows]).movedim(-1, 1).float() / 255
    return strategy.model.predict(images).score


def pairs() -> list[tuple[str, str]]:
    """Each method with its default detector."""
    return [(e.name, e.declared["DEFAULT_DETECTOR"]) for e in registry.found("method").values()]


def cell(stream, cache, method: str, detector: str, *, seed: int = 0, overrides=None, plugins=()) -> Cell:
    """A cell that the runner takes, keyed like a planned one."""
    request = Request((method,), (detector,), (stream.name,), overrides=overrides or {}, cache=cache, plugins=plugins)
    methods, detectors = registry.find("method", method, plugins), registry.find("detector", detector, plugins)
    setup = setup_for(detectors)
    spec = {
        "scenario": stream.name,
        "scenario_version": 1,
        "fingerprint": "test",
        "order": "published",
        "classes": list(stream.classes),
        "steps": [list(step) for step in stream.steps],
        "image_size": stream.image_size,
        "method": method,
        "method_config": {},
        "detector": detector,
        "detector_config": {},
        "backbone": setup.backbone and setup.backbone.name,
        "backbone_arguments": {},
        "weights": {"kind": "random", "source": "", "sha256": ""},
        "size": "tiny",
        "seed": seed,
        "metric_version": 1,
        "variant": "",
    }
    return Cell(spec, methods.declared["CAPABILITIES"], stream, setup.backbone, request)


def read(root, cell: Cell) -> dict:
    return results.read(results.path_of(root, cell.spec))
