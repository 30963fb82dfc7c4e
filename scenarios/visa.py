"""VisA, the 12 official classes in the one-class split (github.com/amazon-science/spot-diff, CC BY 4.0)."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from os.path import isfile
from pathlib import Path

from bench.data import Sample, refuse
from bench.errors import BadInput
from scenarios.folder import Found, absent, limited, locate

NEEDS = "--data DIR with VisA as unpacked: candle/Data/Images, candle/Data/Masks and so on, and split_csv/1cls.csv"
COLUMNS = ("object", "split", "label", "image", "mask")
OFFICIAL = {  # class: (training images, test images) of split_csv/1cls.csv
    "candle": (900, 200),
    "capsules": (542, 160),
    "cashew": (450, 150),
    "chewinggum": (453, 150),
    "fryum": (450, 150),
    "macaroni1": (900, 200),
    "macaroni2": (900, 200),
    "pcb1": (904, 200),
    "pcb2": (901, 200),
    "pcb3": (905, 201),
    "pcb4": (904, 201),
    "pipe_fryum": (450, 150),
}


def samples(root: Path | None, categories: Sequence[str], options: dict) -> list[Sample]:
    """All images that 1cls.csv lists for the classes. Raises BadInput for whatever is absent or has no place in it.

    The option `train_limit` keeps the first so many training images of each class.
    """
    found = walk(root, categories)
    refuse(found.problems)
    return limited(found.samples, options)


def walk(root: Path | None, categories: Sequence[str]) -> Found:
    """Like `samples`, with the problems of single images and classes listed instead of raised."""
    root = locate(root, lambda folder: table(folder) is not None, NEEDS)
    rows = _rows(root)
    there = sorted({row["object"] for row in rows})
    found = Found([], [absent(name, there, f"in {table(root)}") for name in categories if name not in there], [])
    for row in rows:
        if row["object"] in categories:
            _sample(root, row, found)
    return found


def classes(root: Path) -> list[str]:
    """The classes that 1cls.csv lists."""
    return sorted({row["object"] for row in _rows(root)})


def table(root: Path) -> Path | None:
    """The file of the one-class split, in split_csv or beside the classes; None if there is none."""
    inside, beside = root / "split_csv" / "1cls.csv", root / "1cls.csv"
    if isfile(inside):
        return inside
    return beside if isfile(beside) and any(root.glob("*/Data")) else None


def _rows(root: Path) -> list[dict]:
    path = table(root)
    if path is None:
        raise BadInput(f"There is no split_csv/1cls.csv in {root}: it is part of the VisA archive, this needs {NEEDS}.")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            lacking = set(COLUMNS) - set(reader.fieldnames or ())
            rows = [{key: row[key] or "" for key in COLUMNS} for row in reader] if not lacking else []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"The split file {path} cannot be read ({error}): take it from the VisA archive.") from error
    if not rows:
        raise BadInput(f"The split file {path} has no rows with {', '.join(COLUMNS)}: take it from the VisA archive.")
    return rows


def _sample(root: Path, row: dict, found: Found) -> None:
    image, anomalous = root / row["image"], row["label"] == "anomaly"
    mask = root / row["mask"] if anomalous and row["mask"] else None
    problem = _problem(root, row, image, mask)
    if problem:
        found.problems.append(problem)
    else:
        kind = "anomaly" if anomalous else "good"
        found.samples.append(Sample(row["object"], row["split"], image, mask, int(anomalous), kind))


def _problem(root: Path, row: dict, image: Path, mask: Path | None) -> str | None:
    where = f"in {table(root)}"
    if row["split"] not in ("train", "test"):
        return f"The image {row['image']} has the split {row['split']!r} {where}: it must be train or test"
    if row["label"] not in ("normal", "anomaly"):
        return f"The image {row['image']} has the label {row['label']!r} {where}: it must be normal or anomaly"
    if row["label"] == "anomaly" and row["split"] == "train":
        return f"The anomalous image {row['image']} is in the split train {where}: training takes normal images only"
    if row["label"] == "anomaly" and mask is None:
        return f"The anomalous image {row['image']} has no mask {where}: take the file from the VisA archive"
    for path in (image, mask):
        if path and not isfile(path):
            return f"There is no file {path}, and it is listed {where}: unpack the VisA archive again"
    return None
