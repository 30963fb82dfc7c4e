"""bfloat16 beside float32: seconds of training of convolutional detectors, in turns in one process; their ratio.

    python tests/benchmarks/precision.py [--detectors reverse_distillation,stfpm] [--backbone resnet18] [--size 256]

Random weights, random images, the paper's batch or --batch; the median of the repeats counts after a first one that
does not. --channels-last adds float32 with weights and images in that layout, which `bench run` does not offer:
anomalib's loss of Reverse Distillation does not take it.
"""

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import dataclasses
import statistics
import time

import torch

from bench import registry
from bench.api import Setup
from bench.schema.request import BackboneSpec, Weights
from bench.training import precision
from bench.training.detector import Detector
from bench.training.seeding import make_deterministic, seed_everything


def detector(name: str, options) -> Detector:
    module = registry.find_entry("detector", name).load()
    seed_everything(0)
    config = dataclasses.replace(module.Config(), batch_size=options.batch)
    backbone = BackboneSpec(options.backbone, Weights("random"))
    return module.build(config, Setup(options.size, 0, options.device, backbone)).to(options.device).train()


def prepared(name: str, way: str, options):
    """A detector and images (B, 3, H, W) as a way has them."""
    made = detector(name, options)
    image = torch.rand(options.batch, 3, options.size, options.size, generator=torch.Generator().manual_seed(0))
    image = image.to(options.device)
    if way == "channels last":
        return made.to(memory_format=torch.channels_last), image.to(memory_format=torch.channels_last)
    return precision.reduce(made, way), image


def seconds(made: Detector, optimizer, image: torch.Tensor) -> float:
    """Of one training batch."""
    start = time.perf_counter()
    optimizer.zero_grad()
    made.loss(image).backward()
    optimizer.step()
    if image.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detectors", default="reverse_distillation,stfpm")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--size", type=int, default=256, help="px")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--channels-last", action="store_true")
    options = parser.parse_args()
    ways = ["float32", "bfloat16"] + ["channels last"] * options.channels_last
    make_deterministic(1)
    for name in options.detectors.split(","):
        ready = {way: prepared(name, way, options) for way in ways}
        optimizers = {way: made.optimizer() for way, (made, _) in ready.items()}
        found = {way: [] for way in ways}
        for _ in range(options.repeats + 1):
            for way, (made, image) in ready.items():
                found[way].append(seconds(made, optimizers[way], image))
        typical = {way: statistics.median(values[1:]) for way, values in found.items()}
        told = ", ".join(f"{way} {s:.3f} s (ratio {s / typical['float32']:.2f})" for way, s in typical.items())
        print(f"{name}, {options.backbone}, {options.size} px, batches of {options.batch}: {told}", flush=True)


if __name__ == "__main__":
    main()
