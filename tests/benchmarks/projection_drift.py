"""How far weights drift inside what they must not touch: gradients or steps projected, under SGD and under AdamW.

    python tests/benchmarks/projection_drift.py [--epochs 30] [--seeds 3]

The convolutional auto-encoder at its tiny size learns one procedural class at 32 px, then another. `drift` is the share
of the protected weights' change that lies inside the spans of the first class (norms); `old` and `new` are the mean
squared errors of both classes' training images after the second step; before it the first class had `was`.
"""

import argparse
import dataclasses
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

import numpy as np
import torch
from given import experiences
from tabulate import tabulate

from bench import data
from bench.api import Setup
from bench.data import rows_of
from bench.schema.stream import Stream
from bench.training.experiences import as_float
from bench.training.seeding import make_deterministic, seed_everything, seed_for
from methods.detectors import autoencoder
from methods.gradient_projection import Config, GradientProjection
from methods.gradient_projection.columns import inside, transposed

OPTIONS = {"train": 32, "good": 2, "anomalous": 2, "seed": 101}
STREAM = Stream("drift", 1, "synthetic", (("fabric",), ("gear",)), 32, OPTIONS, "this file")
OPTIMISERS = {
    "SGD": lambda weights: torch.optim.SGD(weights, lr=1.0, momentum=0.9),
    "AdamW": lambda weights: torch.optim.AdamW(weights, lr=2e-3, weight_decay=0.01),
}
PROJECTED = ("none", "gradient", "step")


class Onlooker(GradientProjection):
    """Takes the spans and leaves the training alone."""

    def before_training_exp(self, strategy, **_):
        pass

    def before_update(self, strategy, **_):
        self.start = {}


class Small(autoencoder.AutoEncoder):
    """The auto-encoder under a given optimiser."""

    optimise = None

    def optimizer(self):
        return self.optimise(self.parameters())


def strategy(projected: str, optimiser: str, epochs: int, seed: int):
    seed_everything(seed_for(seed, "detector"))
    detector = Small(dataclasses.replace(autoencoder.Config.tiny(), epochs=epochs))
    detector.optimise = OPTIMISERS[optimiser]
    if projected == "none":
        plugin = Onlooker(Config.tiny())
    else:
        plugin = GradientProjection(dataclasses.replace(Config.tiny(), project=projected))
    return Setup(STREAM.image_size, seed, detector=detector).strategy([plugin])


@torch.no_grad()
def error(model, arrays, category: int) -> float:
    images = as_float(torch.from_numpy(arrays.images[rows_of(arrays, [category], train=True)]))
    return model.eval().loss(images).item()


def drift(model, before: dict, spans) -> float:
    groups, inner, whole = transposed(model), 0.0, 0.0
    for name, span in spans.items():
        change = model.get_parameter(name).detach() - before[name]
        inner += inside(change, span.vectors, groups.get(name, 0)).square().sum()
        whole += change.square().sum()
    return (inner / whole).sqrt().item()


def measure(projected: str, optimiser: str, epochs: int, seed: int, arrays) -> tuple[float, ...]:
    built = strategy(projected, optimiser, epochs, seed)
    made = experiences(STREAM, arrays)
    for t in range(2):
        if t == 1:
            was, spans = error(built.model, arrays, 0), dict(built.methods[0].spans)
            before = {name: weight.detach().clone() for name, weight in built.model.named_parameters()}
        seed_everything(seed_for(seed, "train", t))
        built.train(made.train_stream[t], eval_streams=[])
    return drift(built.model, before, spans), was, error(built.model, arrays, 0), error(built.model, arrays, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    options = parser.parse_args()
    make_deterministic(1)
    arrays, _ = data.load_arrays(STREAM, None, STREAM.image_size, options.cache)
    rows = []
    for optimiser in OPTIMISERS:
        for projected in PROJECTED:
            found = [measure(projected, optimiser, options.epochs, s, arrays) for s in range(options.seeds)]
            rows.append([optimiser, projected, *np.mean(found, 0)])
    headers = ["optimiser", "projected", "drift", "was", "old", "new"]
    print(tabulate(rows, headers, floatfmt=("", "", ".5f", ".4f", ".4f", ".4f"), tablefmt="github"))


if __name__ == "__main__":
    main()
