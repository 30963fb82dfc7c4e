"""Streams: which classes arrive together and in which order, read from versioned YAML manifests."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path

from bench.errors import BadInput
from bench.schema.manifest import REQUIRED, problem_of

ORDERS = "published, alphabetical, reversed or random:SEED"
LONGEST = 1_000_000  # bytes of a stream file; ten thousand classes take a tenth
OWN_DATA_HOLDOUT = 0.2  # of a stream file over a folder of one's own that does not say


@dataclass(frozen=True)
class Stream:
    """A list of steps, each a tuple of class names; `image_size` in pixels; `options` go to the reader unchanged."""

    name: str
    version: int
    reader: str
    steps: tuple[tuple[str, ...], ...]
    image_size: int
    options: dict = field(default_factory=dict)
    source: str = ""
    order: str = "published"
    holdout: float = 0.0  # share of the training images of each class that set thresholds, and no method trains on

    @property
    def classes(self) -> tuple[str, ...]:
        """The columns of R: every class once, in order of arrival."""
        return tuple(name for step in self.steps for name in step)

    @property
    def learned_at(self) -> tuple[int, ...]:
        """For each column of R, the step (row) that brings its class."""
        return tuple(index for index, step in enumerate(self.steps) for _ in step)


def load_stream(name: str, folders: Iterable[Path] = ()) -> Stream:
    """Read a stream by name (`mvtec/10-1x5`, `mvtec/10-1x5@1`) or by the path of a YAML file.

    Streams in `folders` (laid out as <dataset>/<stream>.yaml) are found beside the shipped ones.
    Raises BadInput for an unknown name, another version than asked for, and a manifest that does not hold together.
    """
    if name.endswith((".yaml", ".yml")):
        return _read(Path(name), f"custom/{Path(name).stem}")
    plain, at, version = name.partition("@")
    files = dict(_manifests(folders))
    if plain not in files:
        near = difflib.get_close_matches(plain, files, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}? The" if near else "the"
        raise BadInput(f"There is no stream {plain!r}: {hint} streams here are {', '.join(sorted(files))}.")
    stream = _read(files[plain], plain)
    if at and version != str(stream.version):
        raise BadInput(
            f"Stream {plain} is at version {stream.version} here, not {version!r}: ask for {plain}@{stream.version}."
        )
    return stream


def stream_names(folders: Iterable[Path] = ()) -> list[str]:
    """Every stream as <dataset>/<stream>, sorted."""
    return sorted(dict(_manifests(folders)))


def reorder(stream: Stream, order: str) -> Stream:
    """Permute the classes and keep the step sizes; `order` is published, alphabetical, reversed or random:SEED.

    Raises BadInput for any other order, ValueError if the stream is no longer in its published order.
    """
    if stream.order != "published":
        raise ValueError(f"{stream.name} is already in order {stream.order!r}; reorder the published stream")
    classes = stream.classes
    if order == "alphabetical":
        classes = sorted(classes)
    elif order == "reversed":
        classes = reversed(classes)
    elif seed := re.fullmatch(r"random:(\d+)", order):
        # Sorting by a hash gives the same permutation on every platform and Python version; `random` promises neither.
        classes = sorted(classes, key=lambda name: hashlib.sha256(f"{int(seed[1])}:{name}".encode()).digest())
    elif order != "published":
        raise BadInput(f"There is no class order {order!r}: use {ORDERS}.")
    coming = iter(classes)
    steps = tuple(tuple(next(coming) for _ in step) for step in stream.steps)
    return replace(stream, steps=steps, order=order)


def _manifests(folders: Iterable[Path]) -> Iterator[tuple[str, Path]]:
    shipped = Path(str(resources.files("scenarios") / "streams"))
    for folder in (shipped, *map(Path, folders)):
        for path in sorted(folder.glob("*/*.yaml")):
            yield f"{path.parent.name}/{path.stem}", path


def _read(path: Path, name: str) -> Stream:
    from bench.schema import plain_yaml

    try:
        content = plain_yaml.load_yaml(path, LONGEST)
    except OSError as error:
        raise BadInput(f"The stream file {path} cannot be read ({error}): give the path of a YAML file.") from error
    except ValueError as error:
        raise BadInput(f"The stream file {path} {error}: correct it there.") from error
    if not isinstance(content, dict):
        raise BadInput(f"The stream file {path} holds no keys: it needs {', '.join(REQUIRED)}.")
    problem = problem_of(content)
    if problem:
        raise BadInput(f"The stream file {path} {problem}.")
    steps = tuple(tuple(step) for step in content.pop("steps"))
    options = content.pop("options", None) or {}
    own = name.startswith("custom/") and content["reader"] == "folder"
    holdout = float(content.pop("holdout", OWN_DATA_HOLDOUT if own else 0))
    return Stream(name=name, steps=steps, options=options, holdout=holdout, **content)
