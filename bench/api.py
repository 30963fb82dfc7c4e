"""All that a plugin file needs: the one module of the bench that a method, a detector or a reader imports.

Nothing is imported before it is asked for, so that a reader, which needs no torch, loads in a moment.
"""

# ruff: noqa: F401 - what stands under TYPE_CHECKING is for editors, which complete and explain from it

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.data.listing import refuse
    from bench.data.pixels import decode
    from bench.data.sample import Sample
    from bench.errors import BadInput
    from bench.schema.config import later
    from bench.schema.request import PROCEDURAL_PRIOR
    from bench.training.backbone import Embedder, Features, Student
    from bench.training.batch import Batch, Prediction
    from bench.training.detector import Detector, clip, freeze, smooth, trainable
    from bench.training.device import kept_draws
    from bench.training.experiences import as_float, normal_images
    from bench.training.plugin import Plugin
    from bench.training.setup import Setup
    from bench.training.strategy import Images, Strategy

HOMES = {
    # for readers
    "BadInput": "bench.errors",
    "Sample": "bench.data.sample",
    "decode": "bench.data.pixels",
    "refuse": "bench.data.listing",
    # for methods
    "Plugin": "bench.training.plugin",
    "Strategy": "bench.training.strategy",
    "as_float": "bench.training.experiences",
    "normal_images": "bench.training.experiences",
    "kept_draws": "bench.training.device",
    "PROCEDURAL_PRIOR": "bench.schema.request",
    # for both
    "later": "bench.schema.config",
    "Batch": "bench.training.batch",
    "Prediction": "bench.training.batch",
    "Setup": "bench.training.setup",
    # for detectors
    "Detector": "bench.training.detector",
    "Embedder": "bench.training.backbone",
    "Features": "bench.training.backbone",
    "Images": "bench.training.strategy",
    "Student": "bench.training.backbone",
    "clip": "bench.training.detector",
    "freeze": "bench.training.detector",
    "smooth": "bench.training.detector",
    "trainable": "bench.training.detector",
}
__all__ = sorted(HOMES)


def __getattr__(name: str):
    if name not in HOMES:
        raise AttributeError(f"bench.api has no {name!r}")
    return getattr(import_module(HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
