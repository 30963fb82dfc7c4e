"""Images a second: decoding PNG files, the decoded cache from the second epoch on, and anomalib's data module.

    python tests/benchmarks/loader.py [--size 256] [--images 64]

The files are rendered textures of a class of its own seed, saved at twice the size. All load in this process, one
thread, batches of 16 floats in 0..1; the least of three epochs counts, and the first of each is left out.
"""

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import Resize

from bench import data
from bench.data.pixels import decode
from bench.schema.stream import Stream
from bench.training.experiences import TrainImages
from scenarios import synthetic


def write(root: Path, count: int, size: int) -> None:
    """One class in the layout of MVTec AD."""
    options = {"train": count, "good": 1, "anomalous": 1, "seed": 101}
    for index, sample in enumerate(synthetic.samples(None, ["wood"], options)):
        image, mask = synthetic.decode(sample, size)
        kind = sample.kind if sample.label else "good"
        path = root / "wood" / sample.split / kind / f"{index:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
        if sample.label:
            truth = root / "wood" / "ground_truth" / kind / f"{index:03}_mask.png"
            truth.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(truth)


def ours(root: Path, size: int, cache: Path):
    """The loader of the first step, as the training gets it."""
    stream = Stream("loader", 1, "folder", (("wood",),), size, {}, "this file")
    arrays, _ = data.load_arrays(stream, root, size, cache)
    return DataLoader(TrainImages(np.array(arrays.images[arrays.train]), None), 16, shuffle=True)


def theirs(root: Path, size: int):
    """anomalib's Folder data module without workers."""
    from anomalib.data import Folder

    module = Folder(
        "wood", root=root / "wood", normal_dir="train/good", train_batch_size=16, num_workers=0,
        train_augmentations=Resize((size, size)),
    )  # fmt: skip
    module.setup()
    return module.train_dataloader()


def decoding(root: Path, size: int):
    """Each file decoded anew, by the project's own decoder."""
    samples = [s for s in data.listing.listing(Stream("x", 1, "folder", (("wood",),), size), root, ())]
    return ([decode(item.sample, size)] for item in samples if item.sample.split == "train")


def speed(epoch) -> float:
    """Images a second of the quickest of three epochs after a first one."""
    found = []
    for _ in range(4):
        start, count = time.perf_counter(), 0
        for batch in epoch():
            count += len(batch[0]) if isinstance(batch, list | tuple) and torch.is_tensor(batch[0]) else _count(batch)
        found.append(count / (time.perf_counter() - start))
    return max(found[1:])


def _count(batch) -> int:
    return len(batch.image) if hasattr(batch, "image") else len(batch)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256, help="px")
    parser.add_argument("--images", type=int, default=64)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name, "data")
        write(root, options.images, 2 * options.size)
        cached, other = ours(root, options.size, Path(name, "cache")), theirs(root, options.size)
        rates = {
            "decoding PNG": speed(lambda: decoding(root, options.size)),
            "decoded cache, through the training loader": speed(lambda: cached),
            "anomalib's data module": speed(lambda: other),
        }
    for title, rate in rates.items():
        print(f"{title:44} {rate:8.0f} images/s   {rate / rates['decoding PNG']:6.1f} x decoding")


if __name__ == "__main__":
    main()
