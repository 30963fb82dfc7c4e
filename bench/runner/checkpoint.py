"""What a killed run needs to go on at the next step with the same numbers: the bytes that passed, and the cost log.

Its own SHA-256 comes first, and it holds that of each step's scores: no bit changes unseen of what a run goes on from.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from bench import results
from bench.errors import BadInput
from bench.wall import state as states

DIGEST = hashlib.sha256().digest_size  # bytes, before the content
QUICK_S = 0.1  # a write of the cell file that takes less is never put off
SHARE = 0.05  # of the time that slower ones may take


def save(path: Path, key: str, carried: list[bytes], log: dict, scores: list[str]) -> None:
    """Write what the last step handed over, the cost log and the SHA-256 of each step's scores, whole or not at all.

    Raises:
        BadInput: if the disk does not take it.
    """
    content = states.encode({"key": key, "carried": carried, "log": log, "scores": scores})
    results.replace(path, hashlib.sha256(content).digest() + content)


def keep(path: Path, target: Path) -> None:
    """Keep a checkpoint beyond the end of its run: under a second name, or as a copy where there are no links.

    Raises:
        BadInput: if the disk does not take the copy.
    """
    target.unlink(missing_ok=True)
    try:
        os.link(path, target)
    except OSError:
        try:
            shutil.copyfile(path, target)
        except OSError as error:
            raise BadInput(f"{target} was not kept ({error.strerror}): free some space or leave --keep out.") from error


def load_checkpoint(path: Path, key: str) -> dict | None:
    """`carried`, `log` and `scores` of this very cell; None where the file is absent, damaged or another's."""
    try:
        content = memoryview(path.read_bytes())
        digest, content = content[:DIGEST], content[DIGEST:]
        if hashlib.sha256(content).digest() != digest:
            return None
        saved = states.decode_state(content, classes=False)
        return saved if saved["key"] == key else None
    except (OSError, ValueError, TypeError, KeyError):  # foreign: the cell starts again, nothing measured is lost
        return None


class Pace:
    """Puts a slow write of what a kill may lose off until the time since the last one makes it cheap."""

    def __init__(self, now: Callable[[], float] = time.perf_counter):
        self.now, self.took, self.last = now, 0.0, now()

    def write(self, function: Callable[[], object]) -> None:
        """Call `function` if that is due, at what the last call took."""
        if self.took <= QUICK_S or self.took <= SHARE * (self.now() - self.last):
            start = self.now()
            function()
            self.last = self.now()
            self.took = self.last - start
