"""Builds small cells for tests: any method on any detector by name, tiny, with random weights."""

import torch

from bench import registry, results
from bench.contract import trial
from bench.contract.trial import RANDOM, config_of, quick, setup_for
from bench.schema.request import Cell, Request
from bench.training.seeding import seed_everything, seed_for

__all__ = ["RANDOM", "build", "cell", "config_of", "quick", "read", "scores", "seed_everything", "seed_for"]
__all__ += ["setup_for", "train"]


def build(method: str, detector: str, *, seed: int = 0):
    """A strategy ready to train."""
    return trial.build_trial(
        registry.find_entry("method", method), registry.find_entry("detector", detector), seed=seed
    )


def train(strategy, stream, arrays, *, method: str = "finetune", **steps):
    """Train steps `first` to `last`; returns the experiences."""
    return trial.train(strategy, arrays, method=registry.find_entry("method", method), stream=stream, **steps)


@torch.no_grad()
def scores(strategy, arrays, rows) -> torch.Tensor:
    strategy.model.eval()
    images = torch.from_numpy(arrays.images[rows]).movedim(-1, 1).float() / 255
    return strategy.model.predict(images).score


def cell(stream, cache, method: str, detector: str, *, seed: int = 0, overrides=None, plugins=()) -> Cell:
    """A cell that the runner takes, keyed like a planned one."""
    about = {"overrides": overrides or {}, "cache": cache, "plugins": plugins, "device": "cpu"}
    request = Request((method,), (detector,), (stream.name,), **about)
    methods, detectors = (
        registry.find_entry("method", method, plugins),
        registry.find_entry("detector", detector, plugins),
    )
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
    return results.read(results.cell_path(root, cell.spec))
