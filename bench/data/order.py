"""The order in which the test images of a stream are scored: what a submission's arrays follow."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from bench.data.listing import listing
from bench.schema.stream import Stream


def order(stream: Stream, root: Path | None, plugins: Iterable[Path] = ()) -> Iterator[str]:
    """One line per test image, `class<TAB>index<TAB>path below the root`, classes in order of arrival.

    Raises:
        BadInput: where the reader does.
    """
    items = [item for item in listing(stream, root, plugins) if item.sample.split == "test"]
    for name in stream.classes:
        places = [item.place for item in items if item.sample.category == name]
        yield from (f"{name}\t{index}\t{place}" for index, place in enumerate(places))
