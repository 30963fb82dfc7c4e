"""Peak memory of evaluating a stream, in copies of the anomaly maps of its largest class.

    python tests/benchmarks/evaluation_memory.py [--save-maps]

Sizes are those of MVTec AD (1,725 test images in 15 classes) at 256 px, and of 300 images in 4 classes at 1,024 px.
Counted is what Python and NumPy allocate. The maps as they come from a method lie in a file that the kernel may drop
from memory at any time, and are not counted. Images and maps are noise: memory does not depend on them.
"""

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import tempfile
import tracemalloc
from pathlib import Path

import numpy as np

from bench.data import Arrays
from bench.evaluation import Evaluation
from bench.schema.stream import Stream

MVTEC = (83, 150, 132, 117, 78, 110, 124, 115, 167, 160, 117, 42, 100, 79, 151)  # bottle to zipper
CASES = {256: MVTEC, 1024: (75, 75, 75, 75)}


def files(folder: Path, classes, side: int) -> Arrays:
    """Test images in files, two of three with a square defect that covers about 3 % of the pixels of all."""
    count, labels = sum(classes), np.concatenate([np.arange(n) % 3 > 0 for n in classes]).astype(np.int64)
    masks = np.memmap(folder / "masks", bool, "w+", shape=(count, side, side))
    masks[labels == 1, : side // 5, : side // 5] = True
    images = np.memmap(folder / "images", np.uint8, "w+", shape=(count, side, side, 3))
    return Arrays(images, masks, labels, np.repeat(np.arange(len(classes)), classes), np.zeros(count, bool))


def noise(side: int):
    """A method that says noise of every image."""
    rng = np.random.default_rng(0)

    def look(batches, take, column):
        for images in batches:
            size = len(images)
            take({"scores": rng.random(size, np.float32), "maps": rng.random((size, side, side), np.float32)})

    return look


def peak(classes, side: int, *, save_maps: bool = False) -> int:
    """Bytes at the peak of showing all classes and scoring what was said of them, at the only step."""
    with tempfile.TemporaryDirectory() as folder:
        arrays = files(Path(folder), classes, side)
        names = tuple(f"class{column}" for column in range(len(classes)))
        stream = Stream("benchmark/1", 1, "synthetic", (names,), side, {}, "tests")
        evaluation = Evaluation(stream, arrays, save_maps=save_maps)
        tracemalloc.start()
        said = evaluation.show(noise(side), 0, range(len(classes)), told=False)
        evaluation.enter(said)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save-maps", action="store_true", help="as `bench run --save-maps`")
    options = parser.parse_args()
    for side, classes in CASES.items():
        most = peak(classes, side, save_maps=options.save_maps)
        every, largest = (4 * side**2 * count for count in (sum(classes), max(classes)))
        print(
            f"{sum(classes)} images, {side} px: {most / 1e6:.0f} MB, {most / largest:.2f} copies of the largest class "
            f"({largest / 1e6:.0f} MB) and {most / every:.2f} of all ({every / 1e6:.0f} MB)",
            flush=True,
        )
