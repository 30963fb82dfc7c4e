"""The listing of a stream: every image its readers find, in an order of its own, and what the classes lack."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench import registry
from bench.data.drift import drifting, product_of
from bench.data.sample import Item
from bench.errors import BadInput

if TYPE_CHECKING:
    from types import ModuleType

    from bench.data.sample import Sample
    from bench.schema.stream import Stream


def listing(
    stream: Stream, root: Path | None, plugins: Iterable[Path] = (), notes: list[str] | None = None
) -> list[Item]:
    """All items of a stream, sorted by class name, split, kind and place: the same for every order of its steps.

    What a reader took the folders for, and what it is not sure of, is added to `notes`.
    Raises BadInput for an unknown reader, where a reader does, and for a class without training or test images.
    """
    readers = stream.reader.split("+")
    items = []
    for name in readers:
        prefix = f"{name}:" if len(readers) > 1 else ""
        categories = [category.removeprefix(prefix) for category in stream.classes if category.startswith(prefix)]
        place = _part(stream, root, name) if prefix else root
        module = registry.find_entry("scenario", name, plugins).load()
        options = {name: value for name, value in stream.options.items() if name != "drift"}
        product = product_of(stream.options)
        wanted = [product] if product else categories
        samples = _read(module, place, wanted, options, [] if notes is None else notes)
        found = [item(sample, place, module, options, prefix) for sample in samples]
        items += drifting(found, categories, prefix, **stream.options["drift"]) if product else found
    return sorted(items, key=lambda item: (item.sample.category, item.sample.split, item.sample.kind, item.place))


def order(stream: Stream, root: Path | None, plugins: Iterable[Path] = ()) -> Iterator[str]:
    """One line per test image, `class<TAB>index<TAB>path below the root`, classes in order of arrival.

    Raises:
        BadInput: where the reader does.
    """
    items = [item for item in listing(stream, root, plugins) if item.sample.split == "test"]
    for name in stream.classes:
        places = [item.place for item in items if item.sample.category == name]
        yield from (f"{name}\t{index}\t{place}" for index, place in enumerate(places))


def gaps(samples: Sequence[Sample], category: str) -> list[str]:
    """What a class lacks to be trained and tested on, in words; empty if nothing.

    A class without anomalous test images tells its false alarms, one without normal ones its recall.
    """
    found = {sample.split for sample in samples if sample.category == category}
    return [words for key, words in {"train": "training", "test": "test"}.items() if key not in found]


def _read(module: ModuleType, root: Path | None, categories: list[str], options: dict, notes: list[str]):
    if hasattr(module, "walk"):
        found = module.walk(root, categories, options)
        refuse([*found.clashes, *found.problems])
        samples = found.samples
        notes += [*found.taken, *found.leaks, *found.doubtful]
    else:
        samples = module.samples(root, categories, options)
    refuse(
        [
            f"Class {category!r} has no {words} images{f' in {root}' if root else ''}: this needs {module.NEEDS}"
            for category in categories
            for words in gaps(samples, category)
        ]
    )
    return samples


def item(sample: Sample, root: Path | None, module: ModuleType, options: dict, prefix: str = "") -> Item:
    """A sample with its place and, where its reader brings its own decoder, the recipe of its pixels."""
    rendered = isinstance(sample.image, str)
    place = sample.image if rendered or root is None else Path(os.path.relpath(sample.image, root)).as_posix()
    recipe = ""
    if hasattr(module, "decode"):
        recipe = f"{module.__name__} {getattr(module, 'VERSION', 1)} {json.dumps(options, sort_keys=True)}"
    elif sample.inverted:
        recipe = "inverted mask"
    return Item(replace(sample, category=prefix + sample.category), str(place), module, recipe)


def _part(stream: Stream, root: Path | None, name: str) -> Path | None:
    """The folder of one data set of a stream over several: the one in `root` whose name starts like the reader's."""
    if root is None:
        return None
    found = [path for path in sorted(Path(root).glob("*/")) if path.name.lower().startswith(name)]
    if not found:
        raise BadInput(
            f"Stream {stream.name} reads several data sets and there is no folder {name!r} in {root}: "
            f"put or link them there as {' and '.join(stream.reader.split('+'))}."
        )
    return found[0]


def refuse(problems: Sequence[str]) -> None:
    """Raise BadInput with the first problem and the number of the others; return if there is none."""
    if problems:
        others = len(problems) - 1
        more = f" (and {others} more problem{'s' if others > 1 else ''} in this data set)" if others else ""
        raise BadInput(f"{problems[0].rstrip('.')}{more}.")
