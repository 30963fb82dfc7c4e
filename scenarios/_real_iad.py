"""Real-IAD as unpacked: a table of each class in realiad_jsons, and the images in realiad_256, _512 or _1024."""

from __future__ import annotations

import json
from os.path import isdir, isfile
from pathlib import Path

from bench.data import Sample
from scenarios._found import Found

PLACES = ("realiad_jsons/realiad_jsons", "realiad_jsons", ".")  # of the tables, below the data set
NORMAL = "ok"


def tables(root: Path) -> dict[str, Path]:
    """The table of each class; none if this is not Real-IAD. `root` is the data set, or its folder of images."""
    for base in (root, root.parent):
        for place in PLACES:
            if place == "." and base != root:
                continue
            found = {path.stem: path for path in sorted((base / place).glob("*.json")) if _is_table(path)}
            if found:
                return found
    return {}


def read(root: Path, category: str, table: Path, found: Found) -> None:
    """Add the images of a class."""
    try:
        content = json.loads(table.read_text(encoding="utf-8"))
        rows = [
            (split, row, str(row["anomaly_class"]).lower()) for split in ("train", "test") for row in content[split]
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        found.problems.append(f"The table {table} cannot be read ({error!r}): take it from Real-IAD's archive")
        return
    images = _images(root, category)
    if images is None:
        found.problems.append(f"The class {category!r} has a table, {table}, and no folder of images beside {root}")
        return
    prefix = (content.get("meta") or {}).get("prefix") or f"{category}/"
    for split, row, kind in rows:
        normal = kind == NORMAL
        image = images / prefix / row["image_path"]
        mask = images / prefix / row["mask_path"] if row.get("mask_path") and not normal else None
        gone = [path for path in (image, mask) if path and not isfile(path)]
        if gone:
            found.problems.append(f"There is no file {gone[0]}, and it is listed in {table}: unpack it again")
        elif split == "train" and not normal:
            found.problems.append(f"The anomalous image {image} is in train in {table}: training takes normal ones")
        else:
            label = int(not normal)
            found.samples.append(Sample(category, split, image, mask, label, row["anomaly_class"] if label else "good"))
    found.taken.append(f"{category}: Real-IAD, its table {table.parent.name}/{table.name}, its images {images.name}")


def _is_table(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8") as file:
            head = file.read(4096)  # a table has megabytes
    except (OSError, UnicodeDecodeError):
        return False
    return '"anomaly_class"' in head or '"normal_class"' in head


def _images(root: Path, category: str) -> Path | None:
    """The folder with the class in it: the root, or the largest of realiad_256, realiad_512, realiad_1024."""
    sized = [path for path in root.glob("realiad_*") if path.name.removeprefix("realiad_").isdigit()]
    sized.sort(key=lambda path: -int(path.name.removeprefix("realiad_")))
    return next((path for path in (root, *sized) if isdir(path / category)), None)
