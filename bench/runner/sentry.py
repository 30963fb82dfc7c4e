"""While a method's code runs, the folders of results, data, decoded images and kept features are closed to it.

Python tells of every file that is opened, listed, moved or removed (`sys.addaudithook`), whichever library does it.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import bench
from bench.training.experiences import LeakError

# event -> how many of its first arguments are paths
WATCHED = {
    "open": 1,
    "os.listdir": 1,
    "os.scandir": 1,
    "os.mkdir": 1,
    "os.remove": 1,
    "os.rmdir": 1,
    "os.truncate": 1,
    "os.chmod": 1,
    "os.rename": 2,
    "os.link": 2,
    "os.symlink": 2,
}

_closed: tuple[str, ...] = ()
_on_duty = False


@contextmanager
def closed(*folders: Path) -> Iterator[None]:
    """Raise LeakError at whoever touches a file below one of `folders` meanwhile.

    A folder that holds the interpreter or the bench itself stays open: modules are read from it as they are needed.
    """
    global _closed, _on_duty
    if not _on_duty:
        sys.addaudithook(_hear)  # for good: there is no way to take one away
        _on_duty = True
    code = [os.path.realpath(place) for place in (bench.__file__, sys.prefix, sys.base_prefix)]
    below = [os.path.join(os.path.realpath(folder), "") for folder in folders]
    before, _closed = _closed, tuple(path for path in below if not any(place.startswith(path) for place in code))
    try:
        yield
    finally:
        _closed = before


@contextmanager
def opened() -> Iterator[None]:
    """Within, the bench itself reads and writes while a method's code waits for it."""
    global _closed
    before, _closed = _closed, ()
    try:
        yield
    finally:
        _closed = before


def _hear(event: str, arguments: tuple) -> None:
    if not _closed or event not in WATCHED:
        return
    for path in arguments[: WATCHED[event]]:
        if isinstance(path, str | bytes | os.PathLike):
            place = os.path.join(os.path.realpath(os.fsdecode(path)), "")
            if place.startswith(_closed):
                raise LeakError(
                    f"{event} of {os.fsdecode(path)}: results, data and decoded images are closed to a method while "
                    "it runs; it sees the images that it is given, and keeps what it wants in its state."
                )
