"""How many images the classes of a stream have, without its files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from bench import registry
from bench.data import recipes
from bench.data.listing import listing
from bench.schema.stream import Stream

Counts = dict[str, tuple[int, int]]  # class -> (training images, test images)


def counts(stream: Stream, plugins: Iterable[Path] = ()) -> Counts | None:
    """Of the official data set, of what a recipe lays out or a reader renders; None for a folder of one's own."""
    if registry.default_size(stream.reader, plugins) == "tiny":
        samples = [item.sample for item in listing(stream, None, plugins)]
        return {name: _split(s.split for s in samples if s.category == name) for name in stream.classes}
    known: Counts = {}
    for reader in stream.reader.split("+"):
        official = getattr(registry.find_entry("scenario", reader, plugins).load(), "OFFICIAL", {})
        prefix = f"{reader}:" if "+" in stream.reader else ""
        known |= {f"{prefix}{name}": images for name, images in official.items()}
    whole = stream.name.partition("/")[0]
    if stream.reader == "folder" and whole in recipes.recipe_names():  # the recipe that bears the name of the data set
        for path in (recipes.shelf() / whole / f"{name}.yaml" for name in stream.classes):
            if path.is_file():
                known[path.stem] = _split(file.target.parts[1] for file in recipes.recipe(path).files)
    return {name: known[name] for name in stream.classes} if set(stream.classes) <= set(known) else None


def _split(splits: Iterable[str]) -> tuple[int, int]:
    splits = list(splits)
    return splits.count("train"), splits.count("test")
