"""Imported once by the fork server, so that each process starts in milliseconds. CUDA stays untouched.

The libraries are those that the project's methods import; the methods themselves are not, since whatever a plugin runs
it runs behind the wall.
"""

import ast
import importlib
import logging
import sys
import warnings
from pathlib import Path

import numpy as np

import bench

OWN = ("bench", "methods", "scenarios")


def libraries(folder: Path) -> list[str]:
    """Modules of others that the files below a folder import, wherever in the file."""
    nodes = [node for path in sorted(folder.rglob("*.py")) for node in ast.walk(ast.parse(path.read_text()))]
    found = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    found |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
    return sorted(name for name in found if name.partition(".")[0] not in OWN)


def look_once() -> None:
    """Judge an image by a detector that has learned nothing: what is set up at the first use is then shared by all.

    So is what the first network on PyTorch's `meta` device sets up, of which a detector learns what a backbone offers.
    """
    import timm
    import torch

    from bench.schema.request import TINY_BACKBONE
    from bench.training.batch import Prediction
    from bench.training.detector import Detector, smooth
    from bench.training.experiences import TestExperience
    from bench.training.strategy import Strategy

    class Grey(Detector):
        def __init__(self):
            super().__init__()
            self.net = torch.nn.Conv2d(3, 1, 3, padding=1)

        def loss(self, image: torch.Tensor) -> torch.Tensor:
            return self.net(image).square().mean()

        def predict(self, image: torch.Tensor) -> Prediction:
            found = smooth(self.net(image), 1.0)
            return Prediction(found.amax((1, 2, 3)), found)

    with torch.random.fork_rng(devices=[]):
        Strategy(detector=Grey()).eval([TestExperience([np.zeros((1, 64, 64, 3), np.uint8)], None)])
        timm.create_model(TINY_BACKBONE, features_only=True)
        with torch.device("meta"):
            timm.create_model(TINY_BACKBONE, features_only=True)


with warnings.catch_warnings():  # what third-party packages warn of while they import each other is not ours to mend
    warnings.simplefilter("ignore")
    for name in [*libraries(Path(bench.__file__).parents[1] / "methods"), "torch._dynamo"]:  # an optimizer's first step
        if name.partition(".")[0] not in sys.stdlib_module_names:
            importlib.import_module(name)

    import bench.runner
    import bench.runner.loggers
    import bench.runner.plan
    import bench.wall.child

    for name in ("methods.detectors", "scenarios"):  # packages alone: behind the wall nobody may list their folder
        importlib.import_module(name)

    look_once()

# Eight lines of retries per file where there is no network; the bench says once that it fetches something.
logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
# One line per model that is loaded, telling that a package is absent which nothing here needs.
logging.getLogger("diffusers.models.modeling_utils").setLevel(logging.ERROR)
