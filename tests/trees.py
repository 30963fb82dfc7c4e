"""Small data sets on disk for the tests: an MVTec-like tree and a VisA tree."""

import csv
import os
from pathlib import Path

import numpy as np
from PIL import Image

from bench.schema.stream import Stream

# A stream that needs no data: two rendered classes, few images.
MANIFEST = """
version: 1
reader: synthetic
image_size: 64
source: tests
options: {train: 8, good: 4, anomalous: 4}
steps: [[gear], [wood]]
"""


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (24, 24)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


def mask(path: Path, size: tuple[int, int] = (24, 24), value: int = 255) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    grey = np.zeros((size[1], size[0]), np.uint8)
    grey[6:18, 6:18] = value
    Image.fromarray(grey).save(path)
    return path


def tree(root: Path, classes: tuple[str, ...] = ("bolt", "nut"), train: int = 3) -> Path:
    """Each class: `train` training, 2 good and 2 scratched images of 24 x 24 px."""
    for number, name in enumerate(classes):
        for index in range(train):
            picture(root / name / "train" / "good" / f"{index:03}.png", 100 * number + index)
        for index in range(2):
            picture(root / name / "test" / "good" / f"{index:03}.png", 100 * number + 50 + index)
            picture(root / name / "test" / "scratch" / f"{index:03}.png", 100 * number + 60 + index)
            mask(root / name / "ground_truth" / "scratch" / f"{index:03}_mask.png")
    return root


def stream(*classes: str, reader: str = "folder", **options) -> Stream:
    """One class per step."""
    return Stream("custom/test", 1, reader, tuple((name,) for name in classes), 16, options, "made for a test")


def visa_tree(root: Path, classes: tuple[str, ...] = ("candle", "pcb1")) -> Path:
    rows = []
    for number, name in enumerate(classes):
        for index, (split, label) in enumerate([("train", "normal")] * 3 + [("test", "normal"), ("test", "anomaly")]):
            image = f"{name}/Data/Images/{label.title()}/{index:03}.JPG"
            picture(root / image, 10 * number + index, (30, 20))
            hidden = f"{name}/Data/Masks/Anomaly/{index:03}.png" if label == "anomaly" else ""
            if hidden:
                mask(root / hidden, (30, 20), value=1)
            rows.append([name, split, label, image, hidden])
    return write_split(root, rows)


def write_split(root: Path, rows: list[list[str]]) -> Path:
    (root / "split_csv").mkdir(exist_ok=True)
    with (root / "split_csv" / "1cls.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["object", "split", "label", "image", "mask"], *rows])
    return root


def touch_byte(path: Path) -> None:
    """Change one byte and nothing else of a file, long enough ago or later for its time stamp to differ."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    stamp = path.stat().st_mtime_ns + 1_000_000
    os.utime(path, ns=(stamp, stamp))
