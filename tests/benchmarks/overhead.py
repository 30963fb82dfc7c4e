"""Training through the harness beside a bare PyTorch loop: same images, batches, detector and optimiser; their ratio.

    python tests/benchmarks/overhead.py [--detector stfpm] [--sizes 64,256] [--epochs 3] [--repeats 5]

Both run in one process, in turns, from the same seed; the least of the repeats counts for each. The images are those
of a rendered class, decoded and in memory for both. The bare loop makes a batch as the harness does: a loader shuffles
single images and stacks them.
"""

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import dataclasses
import time
from pathlib import Path

import torch
from given import experiences
from torch.utils.data import DataLoader, Dataset

from bench import data, registry
from bench.api import Setup
from bench.schema.request import PROCEDURAL, TINY_BACKBONE, BackboneSpec, Weights
from bench.schema.stream import Stream
from bench.training.experiences import as_float
from bench.training.seeding import make_deterministic, seed_everything

BACKBONE = BackboneSpec(TINY_BACKBONE, Weights("procedural", file=str(PROCEDURAL)))


class Plain(Dataset):
    """Images (N, S, S, 3) uint8 as floats in 0..1."""

    def __init__(self, images):
        self.images = torch.from_numpy(images)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> torch.Tensor:
        return as_float(self.images[index])


def detector(name: str, size: int, epochs: int):
    module = registry.find("detector", name).load()
    seed_everything(0)
    config = dataclasses.replace(module.Config.tiny(), epochs=epochs)
    return module.build(config, Setup(size, 0, backbone=BACKBONE))


def harness(name: str, size: int, epochs: int, stream: Stream, arrays) -> tuple[float, float]:
    """(Seconds, sum of all weights afterwards) of one step through the strategy."""
    made = experiences(stream, arrays)
    strategy = Setup(size, 0, detector=detector(name, size, epochs)).strategy([])
    seed_everything(1)
    start = time.perf_counter()
    strategy.train(made.train_stream[0], eval_streams=[])
    return time.perf_counter() - start, weight(strategy.model)


def bare(name: str, size: int, epochs: int, stream: Stream, arrays) -> tuple[float, float]:
    """The same in the few lines that it takes in PyTorch."""
    model = detector(name, size, epochs)
    seed_everything(1)
    start = time.perf_counter()
    loader = DataLoader(Plain(arrays.images[arrays.train]), model.batch_size, shuffle=True)
    optimizer = model.optimizer()
    model.train()
    for _ in range(epochs):
        for image in loader:
            optimizer.zero_grad()
            model.loss(image).backward()
            optimizer.step()
    return time.perf_counter() - start, weight(model)


def weight(model: torch.nn.Module) -> float:
    return sum(p.detach().double().sum().item() for p in model.parameters())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detector", default="stfpm")
    parser.add_argument("--sizes", default="64,256", help="px")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    options = parser.parse_args()
    make_deterministic(1)
    for size in map(int, options.sizes.split(",")):
        wanted = {"train": 48, "good": 1, "anomalous": 1, "seed": 101}
        stream = Stream("overhead", 1, "synthetic", (("gear",),), size, wanted, "this file")
        arrays, _ = data.load(stream, None, size, options.cache)
        found = {harness: [], bare: []}
        for _ in range(options.repeats + 1):
            for way, runs in found.items():
                runs.append(way(options.detector, size, options.epochs, stream, arrays))
        ours, theirs = (min(seconds for seconds, _ in runs[1:]) for runs in found.values())
        apart = abs(found[harness][0][1] - found[bare][0][1])
        print(
            f"{options.detector}, {size} px: harness {ours:.3f} s, bare loop {theirs:.3f} s, ratio {ours / theirs:.3f} "
            f"(goal: 1.05); sums of weights differ by {apart:.1e}"
        )


if __name__ == "__main__":
    main()
