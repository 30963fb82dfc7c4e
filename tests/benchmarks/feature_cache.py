"""Seconds to the features of a frozen backbone: without a cache, for the first method with one, and for later ones.

    python tests/benchmarks/feature_cache.py [--backbone wide_resnet50_2] [--size 224] [--images 64]

Rendered images of the embedded stream through a network of random weights, in batches of 32, on one thread. Each method
starts as a process does: with a network and a cache of its own, so that the digest of the weights counts; building the
network does not. Every answer is compared with the first, to the last bit.
"""

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from bench.runner.feature_cache import FeatureCache
from bench.schema.request import BackboneSpec, Weights
from bench.training.backbone import Features
from bench.training.experiences import as_float
from scenarios import synthetic

STRIDES = (4, 8, 16)


def pictures(count: int, size: int) -> torch.Tensor:
    """Training images of a class of its own seed."""
    options = {"train": count, "good": 1, "anomalous": 1, "seed": 101}
    found = [sample for sample in synthetic.samples(None, ["wood"], options) if sample.split == "train"]
    return as_float(torch.from_numpy(np.stack([synthetic.decode(sample, size)[0] for sample in found])))


def method(spec: BackboneSpec, folder: Path | None, batches: list[torch.Tensor], wanted: list | None):
    """(seconds, features, images found) of one method over all batches."""
    cache = FeatureCache(folder, 100e9) if folder else None
    network, made = Features(spec, STRIDES, cache and cache.maps), []
    start = time.perf_counter()
    for batch in batches:
        made.append(network(batch))
    seconds = time.perf_counter() - start
    for one, other in zip(made, wanted or made, strict=True):
        assert all(torch.equal(one[key], other[key]) for key in one), "other bits than without a cache"
    return seconds, made, cache.lap()[0] if cache else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="wide_resnet50_2")
    parser.add_argument("--size", type=int, default=224, help="px")
    parser.add_argument("--images", type=int, default=64)
    options = parser.parse_args()
    torch.set_num_threads(1)
    spec = BackboneSpec(options.backbone, Weights("random", "seed 0"))
    images = pictures(options.images, options.size)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(1))
    same, other = list(images.split(32)), list(images[order].split(32))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bare, wanted, _ = method(spec, None, same, None)
        rows = [("no cache", bare, 0)]
        for title, batches in (("first method", same), ("second method", same), ("another seed", other)):
            right = wanted if batches is same else method(spec, None, other, None)[1]
            seconds, _, found = method(spec, folder, batches, right)
            rows.append((title, seconds, found))
        size = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
    for title, seconds, found in rows:
        print(f"{title:14} {seconds:8.2f} s   {found:4} of {len(images)} found   {bare / seconds:6.1f} x no cache")
    print(f"{size / len(images) / 1e6:.2f} MB an image; {options.backbone}, {options.size} px, strides {STRIDES}")


if __name__ == "__main__":
    main()
