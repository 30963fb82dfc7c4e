"""Any tree of classes: MVTec AD, LOCO, AD 2, 3D-AD, AutoVI, BTAD, Real-IAD, converted VisA, and one's own."""

from __future__ import annotations

import difflib
import itertools
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from os.path import exists, isdir, isfile  # unlike Path's, these say False where permission is lacking
from pathlib import Path
from typing import NamedTuple

from bench.data import Sample, refuse
from bench.data.pixels import SUFFIXES
from bench.data.sample import TEST_SHARE
from bench.errors import BadInput
from scenarios import _real_iad
from scenarios._found import Found

NEEDS = "--data DIR with <class>/train/good, <class>/test/good, <class>/test/<defect> and <class>/ground_truth/<defect>"
# Lower case, without - and _.
NORMAL = ("good", "ok", "pass", "normal", "nominal", "defectfree", "nondefective")
ANOMALOUS = ("bad", "ng", "nok", "fail", "defect", "defective", "anomalous", "anomaly")
OPTIONS = ("train_limit", "masks")
MASKS = ("read", "none", "inverted")


class Layout(NamedTuple):
    """Where the images of one kind and their masks lie below the folder of a class: <test>/<kind>/<images_in>."""

    name: str
    train: str
    test: str
    masks: str
    images_in: str = ""
    masks_in: str = ""


# The first one whose folders are there. That masks lie in a folder per image (LOCO, AutoVI) is seen image by image.
LAYOUTS = (
    Layout("MVTec AD 2, its public test images", "train", "test_public", "test_public/ground_truth"),
    Layout("MVTec 3D-AD, its colour images", "train", "test", "test", images_in="rgb", masks_in="gt"),
    Layout("MVTec AD", "train", "test", "ground_truth"),
)
SPELLINGS = {  # lower case, without - and _, the first one found counts
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "test_public": ("testpublic",),
    "ground_truth": ("groundtruth", "gt", "masks", "mask", "labels", "label", "annotations"),
}
SORTED = Layout("folders of good and bad pictures, every fourth good one tested on", "", "", "ground_truth")
FLAT = SORTED._replace(name="a flat folder of good pictures, every fourth tested on")
# What the name of a mask has more than that of its image: 000_mask, 000_GT, mask_000, 000.png_mask.
AFFIX = re.compile(
    r"^(mask|gt|label)[ _-]+|[ _.-]+(mask|gt|labels?|ground[ _-]?truth|seg|segmentation|annotation)$", re.IGNORECASE
)


def samples(root: Path | None, categories: Sequence[str], options: dict) -> list[Sample]:
    """All images of the classes. Raises BadInput for an absent or wrong folder, an absent class or an absent mask.

    Options: `train_limit` keeps the first so many training images of each class; `masks: none` reads no masks (image
    metrics only), `masks: inverted` takes black for the defect. A class without any mask is read as with `none`.
    """
    found = walk(root, categories, options)
    refuse([*found.clashes, *found.problems])
    return found.samples


def walk(root: Path | None, categories: Sequence[str], options: dict | None = None) -> Found:
    """Like `samples`, with the problems of single images and classes listed instead of raised."""
    options = options or {}
    check_options(options)
    root = locate(
        root,
        lambda folder: (
            any(name in _real_iad.tables(folder) for name in categories)
            or any(_place(folder, name) for name in categories)
        ),
        NEEDS,
    )
    found, real_iad = Found(), _real_iad.tables(root)
    for category in categories:
        if category in real_iad:
            _real_iad.read(root, category, real_iad[category], found)
        elif place := _place(root, category):
            _class(place, found, options.get("masks", "read"))
        else:
            found.problems.append(absent(category, classes(root), f"a folder in {root}"))
    return found.limited(options.get("train_limit"))


def classes(root: Path) -> list[str]:
    """The folders that look like a class; the root itself, by its name, where it holds the pictures of one product.

    Folders with `train` or `test`, folders with pictures in folders named like good and bad, and, where nothing has
    `train` or `test`, folders of pictures alone. A root with pictures in a folder named like good is one class.
    """
    if tables := _real_iad.tables(root):
        return sorted(tables)
    folders = [path for path in entries(root) if isdir(path)]
    trees = [path for path in folders if _is_tree(path)]
    folders = [path for path in folders if path not in trees and _names_product(path)]
    by_kind = [path for path in folders if _kinds(path, NORMAL + ANOMALOUS)]
    if trees:
        return sorted(path.name for path in trees + by_kind)
    itself = Path(os.path.abspath(root))
    flat = [path for path in folders if path not in by_kind and _is_flat(path)]
    if not by_kind and (_is_tree(root) or not _names_product(itself)):  # a class, or part of one: the root is above
        return []
    if not by_kind and (_kinds(root, NORMAL) or (not flat and _is_flat(root))):
        return [itself.name]
    return sorted(path.name for path in by_kind + flat)


def unread(root: Path) -> list[str]:
    """A line for each folder in a root that is not read with its classes, and where its pictures would be."""
    there = classes(root)
    if _real_iad.tables(root) or any(not isdir(root / name) for name in there):  # a class tells its own
        return []
    return [
        f"{path} is not read: put its good pictures into {path / 'good'} and its bad ones into {path / 'bad'}"
        if _names_product(path)
        else f"{path} is not read: a folder of this name belongs into that of its class, or give it the product's name"
        for path in entries(root)
        if isdir(path) and path.name not in there
    ]


def locate(root: Path | None, holds: Callable[[Path], bool], needs: str) -> Path:
    """The root, if it can be read and `holds` says that it is one; raises BadInput with the right path if it is near.

    A root in which nothing is wrong but the classes asked for passes: what is absent is named class by class.
    """
    if root is None:
        raise BadInput(f"No data folder was given: this needs {needs}.")
    root = Path(root)
    if not exists(root):
        raise BadInput(f"There is no folder {root}: this needs {needs}.")
    if not isdir(root):
        raise BadInput(f"{root} is a file, not a folder: this needs {needs}.")
    inside = [path for path in entries(root) if isdir(path)]
    if not holds(root):
        above = list(root.resolve().parents)[:3] if entries(root) else []
        for near in [*inside, *above] if _names_product(root) and not _is_tree(root) else [*above, *inside]:
            if holds(near):
                raise BadInput(f"{root} is the wrong level of the data set: give {near} instead.")
        if not inside:
            raise BadInput(f"There are no folders in {root}: this needs {needs}.")
    return root


def absent(category: str, there: Sequence[str], what: str) -> str:
    """The sentence for a class that a data set does not have."""
    near = difflib.get_close_matches(category, there, n=1)
    rest = f"the nearest is {near[0]!r}" if near else f"it has {', '.join(there) or 'no class at all'}"
    return f"The class {category!r} is not {what}: {rest}"


def entries(folder: Path) -> list[Path]:
    """What is in a folder, sorted, without hidden files (macOS leaves `._000.png` that are no images)."""
    try:
        return sorted(folder / name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        raise BadInput(f"The folder {folder} cannot be read ({error.strerror}): check its permissions.") from error


def check_options(options: dict) -> None:
    """Raises BadInput for an option that this reader does not have, or that cannot be."""
    unknown = set(options) - set(OPTIONS)
    if unknown:
        raise BadInput(f"This reader has no option {min(unknown)!r}: it has {' and '.join(OPTIONS)}.")
    limit = options.get("train_limit", 1)
    if type(limit) is not int or limit < 1:
        raise BadInput(f"The option train_limit is {limit!r}: it must be a whole number above 0.")
    if options.get("masks", "read") not in MASKS:
        raise BadInput(f"The option masks is {options['masks']!r}: it is one of {', '.join(MASKS)}.")


def _plain(name: str) -> str:
    return re.sub("[-_ ]", "", name.lower())


def _child(folder: Path, part: str) -> Path | None:
    """The folder below `folder` that is the `part` of a layout, in whichever spelling; a part may be a path."""
    for name in part.split("/"):
        there = {_plain(path.name): path for path in reversed(entries(folder)) if isdir(path)}
        spelt = next((spelling for spelling in SPELLINGS[name] if spelling in there), None)
        if spelt is None:
            return None
        folder = there[spelt]
    return folder


def _place(root: Path, category: str) -> Path | None:
    """The folder of a class: the one of its name, or the root itself if it is the only class."""
    if isdir(root / category):
        return root / category
    itself = Path(os.path.abspath(root))
    return itself if itself.name == category and isdir(root) and category in classes(root) else None


def _names_product(folder: Path) -> bool:
    """Whether a folder may be a class by its name: not one that says which part of a class it is."""
    return _plain(folder.name) not in (*NORMAL, *ANOMALOUS, *itertools.chain(*SPELLINGS.values()))


def _is_tree(folder: Path) -> bool:
    return any(_child(folder, part) for part in ("train", "test", "test_public"))


def _kinds(folder: Path, names: Sequence[str]) -> list[Path]:
    """The folders of pictures in a folder that have one of these names."""
    return [path for path in entries(folder) if _plain(path.name) in names and isdir(path) and _is_flat(path)]


def _is_flat(folder: Path) -> bool:
    """Whether there are pictures directly in a folder."""
    return any(map(_is_picture, entries(folder)))


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and isfile(path)


def _layout(folder: Path) -> Layout:
    public, coloured, plain = LAYOUTS
    if _child(folder, "test_public"):
        return public
    splits = [split for split in (_child(folder, "train"), _child(folder, "test")) if split]
    if any(isdir(kind / coloured.images_in) for split in splits for kind in entries(split) if isdir(kind)):
        return coloured
    return plain


def _class(folder: Path, found: Found, how: str) -> None:
    start = len(found.samples)
    layout = _tree(folder, found, how) if _is_tree(folder) else _sorted(folder, found, how)
    _say(folder.name, layout, found, found.samples[start:], how)


def _sorted(folder: Path, found: Found, how: str) -> Layout:
    """Reads good and bad pictures in folders named so; where none is named good, those beside them are good."""
    good, bad = _kinds(folder, NORMAL), _kinds(folder, ANOMALOUS)
    masks = _child(folder, "ground_truth")
    beside = [] if good else list(filter(_is_picture, entries(folder)))
    read = {*good, *bad, *beside, *([masks] if bad else [])}
    for path in entries(folder):
        if path not in read and isdir(path) and path != masks:
            found.notes.append(f"{path} is not read: if its pictures are bad ones, put them into {folder / 'bad'}")
        elif path not in read:
            found.passed_over(folder, path)
    images = beside + [image for kind in good for image in _images(kind, found, set())]
    for position, image in enumerate(images):
        split = "test" if position % TEST_SHARE == TEST_SHARE - 1 else "train"
        found.samples.append(Sample(folder.name, split, image, None, 0, "good"))
    layout = SORTED if good or bad else FLAT
    _testing(folder, bad, masks if bad and how != "none" else None, layout, found, how)
    return layout


def _tree(folder: Path, found: Found, how: str) -> Layout:
    layout = _layout(folder)
    train, test, masks = (_child(folder, part) for part in (layout.train, layout.test, layout.masks))
    if how == "none":
        masks = None
    known = {path for path in (train, test, masks) if path}
    for path in entries(folder):
        if path not in known and path != _child(folder, "ground_truth"):
            found.passed_over(folder, path)
    if train:
        _training(folder.name, train, layout, found)
    if test:
        for path in entries(test):
            if not isdir(path):
                found.passed_over(test, path)
        _testing(folder, [path for path in entries(test) if isdir(path) and path != masks], masks, layout, found, how)
    return layout


def _training(category: str, train: Path, layout: Layout, found: Found) -> None:
    kinds = [path for path in entries(train) if isdir(path)]
    if not kinds:
        pictures = _images(train, found, set())
        found.samples.extend(Sample(category, "train", image, None, 0, "good") for image in pictures)
        return
    for path in entries(train):
        if path not in kinds:
            found.passed_over(train, path)
    for kind in kinds:
        if _plain(kind.name) in NORMAL:
            images = _images(kind / layout.images_in, found, set())
            found.samples.extend(Sample(category, "train", image, None, 0, "good") for image in images)
            _beside(kind, layout, found)
        else:
            found.notes.append(f"{kind} is not read: training takes normal images only")


def _testing(folder: Path, kinds: Sequence[Path], masks: Path | None, layout: Layout, found: Found, how: str) -> None:
    used, lacking = set(), []
    for kind in kinds:
        if _plain(kind.name) in NORMAL:
            images = _images(kind / layout.images_in, found, set())
            found.samples.extend(Sample(folder.name, "test", image, None, 0, "good") for image in images)
        else:
            lacking += _anomalous(folder, kind, masks, layout, found, used, how)
        _beside(kind, layout, found)
    if masks and masks not in {kind.parent for kind in kinds}:
        _orphans(masks, {kind.name for kind in kinds}, used, found)
    masked = any(sample.masks for sample in found.samples if sample.category == folder.name)
    if how != "none" and (masked or used):  # where there is no mask at all, image metrics are wanted
        found.problems.extend(_no_mask(folder, layout, image, used) for image in lacking)


def _anomalous(
    folder: Path, kind: Path, masks: Path | None, layout: Layout, found: Found, used: set[Path], how: str
) -> list[Path]:
    """Adds the images of a kind of defect; returns those whose mask is not there."""
    inside = kind / layout.images_in
    images = _images(inside, found, used)
    beside = _masks_beside(images)  # 000.png and 000_mask.png in one folder
    images = [image for image in images if image not in beside]
    candidates = {} if how == "none" else _candidates(kind, masks, layout)
    for path in beside:
        for key in _keys(path):
            candidates.setdefault(key, set()).add((path,))
    taken, lacking = defaultdict(list), []
    for image in images:
        fitting = candidates.get(image.name.lower(), set()) | candidates.get(image.stem.lower(), set())
        if len(fitting) > 1:
            names = " and ".join(str(parts[0]) for parts in sorted(fitting))
            found.clashes.append(f"The image {image} has two masks, {names}: keep the right one")
        mask = min(fitting) if fitting else None
        if mask is None:
            lacking.append(image)
        else:
            taken[mask].append(image)
            used.update(path for parts in fitting for path in parts)
        mask = mask[0] if mask and len(mask) == 1 else mask
        found.samples.append(Sample(folder.name, "test", image, mask, 1, kind.name, how == "inverted"))
    for mask, sharing in taken.items():
        if len(sharing) > 1:
            names = " and ".join(map(str, sharing))
            found.clashes.append(f"The images {names} share the mask {mask[0]}: give each a name and a mask of its own")
    return lacking


def _candidates(kind: Path, masks: Path | None, layout: Layout) -> dict[str, set[tuple[Path, ...]]]:
    """The masks that may belong to images of a kind: in the folder of the kind, or all in one folder."""
    if masks is None:
        return {}
    if isdir(masks / kind.name / layout.masks_in):
        return _keyed(entries(masks / kind.name / layout.masks_in))
    if masks == kind.parent:
        return {}
    return _keyed(path for path in entries(masks) if not isdir(path) or not isdir(kind.parent / path.name))


def _masks_beside(images: Sequence[Path]) -> set[Path]:
    stems = {image.stem.lower() for image in images}
    return {image for image in images if (bare := _bare(image.stem)) != image.stem.lower() and bare in stems}


def _keyed(paths: Iterable[Path]) -> dict[str, set[tuple[Path, ...]]]:
    """Masks by what the name of their image may be; a folder named like an image holds the parts of its mask."""
    keyed = defaultdict(set)
    for path in paths:
        if isdir(path):
            parts = tuple(filter(_is_picture, entries(path)))
            if parts:
                keyed[path.name.lower()].add(parts)
        elif path.suffix.lower() in SUFFIXES:
            for key in _keys(path):
                keyed[key].add((path,))
    return keyed


def _keys(mask: Path) -> set[str]:
    return {mask.stem.lower(), _bare(mask.stem)}


def _bare(stem: str) -> str:
    return AFFIX.sub("", stem.lower())


def _no_mask(folder: Path, layout: Layout, image: Path, used: set[Path]) -> str:
    kind = image.parent.parent if layout.images_in else image.parent
    inside = folder / layout.masks / kind.name / layout.masks_in
    wanted = inside / f"{image.stem}{'' if layout.masks_in else '_mask'}.png"
    there = [path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.parent != image.parent]
    there = [path for path in there if _bare(path.stem) == image.stem.lower() and kind.name in path.parts]
    bare = {_bare(path.stem): path for path in entries(inside) if path not in used} if isdir(inside) else {}
    near = there or [bare[name] for name in difflib.get_close_matches(image.stem, bare, 1)]
    hint = f"is it {near[0]}? Else put" if near else "put"
    return f"The anomalous image {image} has no mask: {hint} it at {wanted}"


def _orphans(masks: Path, kinds: set[str], used: set[Path], found: Found) -> None:
    """Masks that belong to no image."""
    for path in entries(masks):
        if not isdir(path):
            if path not in used:
                found.passed_over(masks, path)
        elif path.name not in kinds and not used.intersection(path.iterdir()):
            found.notes.append(f"{path} is not read: there are no test images of this kind")
        elif _plain(path.name) in NORMAL:
            found.notes.append(f"{path} is not read: normal images have no defect")
        else:
            for mask in entries(path):
                if mask not in used and not (isdir(mask) and used.intersection(mask.iterdir())):
                    found.notes.append(f"{mask} is not read: no image has this name")


def _beside(kind: Path, layout: Layout, found: Found) -> None:
    """What lies beside the colour images of MVTec 3D-AD."""
    if layout.images_in:
        for path in entries(kind):
            if path.name not in (layout.images_in, layout.masks_in):
                found.passed_over(kind, path)


def _images(folder: Path, found: Found, used: set[Path]) -> list[Path]:
    inside = entries(folder) if isdir(folder) else []
    images = [path for path in inside if _is_picture(path)]
    for path in inside:
        if path not in set(images):
            found.passed_over(folder, path)
    return images


def _say(category: str, layout: Layout, found: Found, mine: Sequence[Sample], how: str) -> None:
    """One line on what the folder of a class was taken for."""
    name = layout.name
    anomalous = [sample for sample in mine if sample.label]
    if any(isinstance(sample.mask, tuple) or _is_part(sample) for sample in anomalous):
        name = "MVTec LOCO AD or AutoVI, a folder of masks per image, united"
    line = f"{category}: {name}"
    others = sorted({_scheme(sample) for sample in anomalous if sample.masks} - {"NAME_mask", "NAME"})
    if others and not name.startswith("MVTec LOCO"):
        line += f", masks named {', '.join(others)}"
    if anomalous and not any(sample.masks for sample in anomalous):
        line += ", without masks: image metrics only"
    if any(_plain(sample.image.parent.name) in SPELLINGS["train"] for sample in mine):
        line += ", the pictures directly in its training folder taken for normal ones"
    if how == "inverted":
        line += ", masks inverted"
    if not any(sample.split == "test" and not sample.label for sample in mine):
        line += ", without normal test images: no metric that ranks them against anomalous ones"
    elif not anomalous:
        line += ", without anomalous test images: false alarms only"
    found.taken.append(line)


def _is_part(sample: Sample) -> bool:
    return bool(sample.masks) and sample.masks[0].parent.name.lower() == sample.image.stem.lower()


def _scheme(sample: Sample) -> str:
    """How a mask is named after its image."""
    return sample.masks[0].stem.lower().replace(sample.image.stem.lower(), "NAME", 1)
