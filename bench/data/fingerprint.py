"""The fingerprint of a data set: one hash over what is in its files, wherever they lie."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import BadInput
from bench.schema.disk import locked, replace

if TYPE_CHECKING:
    from bench.data.sample import Item

CHECKSUM = "sha256"  # of a file of JSON, beside what it holds


def fingerprint(items: Sequence[Item], cache: Path) -> str:
    """sha256 (hex) over the sorted (class, split, kind, place, recipe, hash of image, hash of mask) of all items.

    It depends neither on the order of the stream nor on where the data lie: `place` is the path below the root. For
    a rendered image, place and recipe stand for the content. File hashes are kept in `cache`: a file of the same
    path, size and modification time is not read again.
    """
    paths = {path for item in items for path in (item.sample.image, *item.sample.masks) if isinstance(path, Path)}
    known = contents(paths, cache)
    rows = sorted(
        [
            item.sample.category,
            item.sample.split,
            item.sample.kind,
            item.place,
            item.recipe,
            known.get(item.sample.image, ""),
            "+".join(known[mask] for mask in item.sample.masks),
        ]
        for item in items
    )
    return hashlib.sha256(_bytes(json.dumps(rows, ensure_ascii=False))).hexdigest()


def contents(paths: Iterable[Path], cache: Path) -> dict[Path, str]:
    """sha256 (hex) of each file, read in threads; those known to `cache` are only looked at, not read."""
    paths = sorted(paths)
    if not paths:
        return {}
    root = os.path.commonpath([path.parent for path in paths])
    store = cache / f"hashes-{hashlib.sha256(_bytes(root)).hexdigest()[:12]}.json"
    with locked(Path(f"{store}.lock")):  # the second process waits for the first one's hashes, and reads no files
        known = read_json(store) or {}
        stamps = {}
        for path in paths:
            try:
                status = path.stat()
            except OSError as error:
                raise BadInput(f"The file {path} cannot be read ({error.strerror}): check that it is there.") from error
            stamps[path] = [status.st_size, status.st_mtime_ns]
        unknown = [path for path in paths if known.get(str(path), [])[:2] != stamps[path]]
        with ThreadPoolExecutor(workers()) as pool:
            for path, digest in zip(unknown, pool.map(_digest, unknown), strict=True):
                known[str(path)] = [*stamps[path], digest]
        if unknown:
            write_json(store, known)
    return {path: known[str(path)][2] for path in paths}


def repeated(items: Sequence[Item], cache: Path) -> list[tuple[str, str]]:
    """(place of a test image, place of the training image that it is, byte for byte)."""
    known = contents({item.sample.image for item in items if isinstance(item.sample.image, Path)}, cache)
    trained_on = {known.get(item.sample.image): item.place for item in items if item.sample.split == "train"}
    trained_on.pop(None, None)  # rendered images
    tested = [
        (item.place, trained_on.get(known.get(item.sample.image))) for item in items if item.sample.split == "test"
    ]
    return [(test, train) for test, train in tested if train]


def workers() -> int:
    """Threads for reading and decoding: the cores that this process may use, at most 16."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(16, cores)


def write_json(path: Path, content: dict) -> None:
    """Write a file with its checksum, whole or not at all; raises BadInput where it cannot be saved."""
    replace(path, json.dumps({**content, CHECKSUM: _checksum(content)}))


def read_json(path: Path) -> dict | None:
    """What `write_json` wrote; None where it is absent, damaged or foreign."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return content if content.pop(CHECKSUM) == _checksum(content) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _checksum(content: dict) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")  # a file name may be no UTF-8


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadInput(f"The file {path} cannot be read ({error.strerror}): check its permissions.") from error
