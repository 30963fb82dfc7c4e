"""VisA, the 12 official classes in the one-class split (github.com/amazon-science/spot-diff, CC BY 4.0)."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from os.path import isdir, isfile
from pathlib import Path

from bench.data import Sample, refuse
from bench.data.pixels import SUFFIXES
from bench.errors import BadInput
from scenarios import folder
from scenarios._found import Found

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


LABELS = {"normal": 0, "good": 0, "ok": 0, "anomaly": 1, "anomalous": 1, "bad": 1}  # lower case
INSIDE = ("1cls", "visa_pytorch/1cls", "VisA_pytorch/1cls", "visa")  # where converted copies have the classes


def samples(root: Path | None, categories: Sequence[str], options: dict) -> list[Sample]:
    """All images that 1cls.csv lists for the classes. Raises BadInput for whatever is absent or has no place in it.

    Without that table, a copy that was converted to MVTec's folders is read as such. Options: as of `folder`.
    """
    found = walk(root, categories, options)
    refuse([*found.clashes, *found.problems])
    return found.samples


def walk(root: Path | None, categories: Sequence[str], options: dict | None = None) -> Found:
    """Like `samples`, with the problems of single images and classes listed instead of raised."""
    converted = root and _converted(Path(root))
    if converted:
        found = folder.walk(converted, categories, options)
        found.taken.insert(0, f"VisA as converted to MVTec's folders, in {converted}")
        return found
    folder.check_options(options or {})
    root = folder.locate(root, lambda path: table(path) is not None, NEEDS)
    rows, twice = _rows(root)
    there = sorted({row["object"] for row in rows})
    lacking = [folder.absent(name, there, f"in {table(root)}") for name in categories if name not in there]
    found = Found(problems=lacking, taken=[f"VisA as unpacked, its table {table(root)}"])
    if twice:
        found.doubtful.append(f"{twice} rows are listed twice in {table(root)}: each image is taken once")
    for row in rows:
        if row["object"] in categories:
            _sample(root, row, found, (options or {}).get("masks", "read"))
    _both(found, root)
    return found.limited((options or {}).get("train_limit"))


def classes(root: Path) -> list[str]:
    """The classes that 1cls.csv lists, or those of a converted copy."""
    converted = _converted(root)
    return folder.classes(converted) if converted else sorted({row["object"] for row in _rows(root)[0]})


def table(root: Path) -> Path | None:
    """The file of the one-class split, in split_csv or beside the classes; None if there is none."""
    inside, beside = root / "split_csv" / "1cls.csv", root / "1cls.csv"
    if isfile(inside):
        return inside
    return beside if isfile(beside) and any(root.glob("*/Data")) else None


def holds(root: Path) -> bool:
    """Whether a folder is VisA, as unpacked or converted."""
    return table(root) is not None or _converted(root) is not None


def _converted(root: Path) -> Path | None:
    """The folder with the classes of a copy in MVTec's folders; None if this is not one."""
    if table(root):
        return None
    places = [root, *(root / place for place in INSIDE)]
    return next((place for place in places if any(isdir(place / name / "train") for name in OFFICIAL)), None)


def _rows(root: Path) -> tuple[list[dict], int]:
    """Rows with the keys of `COLUMNS`, each once, and how many were there again."""
    path = table(root)
    if path is None:
        raise BadInput(f"There is no split_csv/1cls.csv in {root}: it is part of the VisA archive, this needs {NEEDS}.")
    try:
        content = path.read_bytes()
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
        head = text.partition("\n")[0]
        separator = max(",;\t", key=head.count)
        reader = csv.DictReader(text.splitlines(), delimiter=separator)
        reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
        lacking = set(COLUMNS) - set(reader.fieldnames)
        rows = [{key: (row[key] or "").strip() for key in COLUMNS} for row in reader] if not lacking else []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"The split file {path} cannot be read ({error}): take it from the VisA archive.") from error
    if not rows:
        raise BadInput(f"The split file {path} has no rows with {', '.join(COLUMNS)}: take it from the VisA archive.")
    once = list({tuple(row.values()): row for row in rows}.values())
    return once, len(rows) - len(once)


def _sample(root: Path, row: dict, found: Found, how: str) -> None:
    label, split = LABELS.get(row["label"].lower()), row["split"].lower()
    image = _file(root, row["image"])
    mask = _file(root, row["mask"]) if label and row["mask"] and how != "none" else None
    problem = _problem(root, row, split, label, image, mask, how)
    if problem:
        found.problems.append(problem)
    else:
        kind = "anomaly" if label else "good"
        found.samples.append(Sample(row["object"], split, image, mask, label, kind, how == "inverted"))


def _file(root: Path, listed: str) -> Path:
    """A file of the table: below the root, with either slash, with or without a folder around, re-saved or not."""
    path = root / listed.replace("\\", "/")
    if isfile(path):
        return path
    parts = path.relative_to(root).parts
    shorter = root.joinpath(*parts[1:])
    for candidate in (path, shorter):
        if candidate.parent.is_dir():
            same = [other for other in candidate.parent.iterdir() if other.stem.lower() == candidate.stem.lower()]
            same = [other for other in same if other.suffix.lower() in SUFFIXES]
            if same:
                return min(same)
    return path


def _both(found: Found, root: Path) -> None:
    trained_on = {sample.image for sample in found.samples if sample.split == "train"}
    for sample in found.samples:
        if sample.split == "test" and sample.image in trained_on:
            found.leaks.append(f"the image {sample.image} is listed in train and in test in {table(root)}")


def _problem(root: Path, row: dict, split: str, label: int | None, image: Path, mask: Path | None, how: str):
    where = f"in {table(root)}"
    if split not in ("train", "test"):
        return f"The image {row['image']} has the split {row['split']!r} {where}: it must be train or test"
    if label is None:
        return f"The image {row['image']} has the label {row['label']!r} {where}: it must be normal or anomaly"
    if label and split == "train":
        return f"The anomalous image {row['image']} is in the split train {where}: training takes normal images only"
    if label and mask is None and how != "none":
        return f"The anomalous image {row['image']} has no mask {where}: take the file from the VisA archive"
    for path in (image, mask):
        if path and not isfile(path):
            return f"There is no file {path}, and it is listed {where}: unpack the VisA archive again"
    return None
