"""What a run under way has stored: one file per step in a folder of its own, joined when the run is finished.

So a step costs what it holds, however long the stream has been. Each file holds the step's entries as
`bench.results.stored` names them, and its numbers as `step-K/NAME/row`: together with the checkpoint they are what a
killed run goes on from, and the checkpoint knows the SHA-256 of each.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.errors import BadInput
from bench.results import stored
from bench.results.archive import Archive

ROW = "row"


def folder_of(scores: Path) -> Path:
    """Where the files of the steps lie until they become the file `scores`."""
    return scores.with_suffix(".steps")


def file_of(scores: Path, step: int) -> Path:
    """The file of one step (from 0)."""
    return folder_of(scores) / f"step-{step}.npz"


def write_segment(scores: Path, step: int, arrays: dict[str, np.ndarray], row: dict[str, np.ndarray]) -> str:
    """Store the arrays and the numbers of a step; both are empty where it was not evaluated. Returns the SHA-256.

    Raises:
        BadInput: if the disk does not take it.
    """
    entries = {f"step-{step}/{name}": values for name, values in arrays.items()}
    entries |= {f"step-{step}/{name}/{ROW}": values for name, values in row.items()}
    stored.write_stored(file_of(scores, step), entries.items(), compress=False)  # compressed once, in `join`
    return stored.checksum(file_of(scores, step))


def steps_held(scores: Path, digests: list[str], maps: bool) -> int:
    """How many steps, from the first on, lie there as they were written, with maps or without."""
    for step, digest in enumerate(digests):
        try:
            if stored.checksum(file_of(scores, step)) != digest:
                return step
            with Archive(file_of(scores, step)) as archive:
                parts = {stored.split(entry)[2] for entry in archive.entries}
        except (BadInput, OSError):
            return step
        if "scores" in parts and ("maps" in parts) != maps:
            return step
    return len(digests)


def rows(scores: Path, steps: int) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """(step, its numbers by name) of the first `steps` steps."""
    for step in range(steps):
        with Archive(file_of(scores, step)) as archive:
            names = [entry for entry in archive.entries if stored.split(entry)[2] == ROW]
            yield step, {stored.split(entry)[1]: archive.read(entry) for entry in names}


def cut(scores: Path, steps: int) -> None:
    """Leave the first `steps` steps: what a killed run had stored beyond its checkpoint is made again."""
    if not steps:
        scores.unlink(missing_ok=True)
        shutil.rmtree(folder_of(scores), ignore_errors=True)
    while file_of(scores, steps).exists():
        file_of(scores, steps).unlink()
        steps += 1


def join(scores: Path, run: int, digests: list[str]) -> None:
    """Write `scores` from the files of all steps, one array in memory at a time.

    Raises:
        BadInput: if a file is no longer as it was written, or if the disk does not take it.
    """
    stored.write_stored(scores, _entries(scores, run, digests))


def _entries(scores: Path, run: int, digests: list[str]) -> Iterator[tuple[str, np.ndarray]]:
    yield "run", np.array(run, np.uint64)
    for step, digest in enumerate(digests):
        path = file_of(scores, step)
        if not path.is_file() or stored.checksum(path) != digest:
            raise BadInput(f"{path} is no longer as the run wrote it: run the same command again.")
        with Archive(path) as archive:
            for entry in archive.entries:
                if stored.split(entry)[2] != ROW:
                    yield entry, archive.read(entry)


def drop(scores: Path) -> None:
    """Remove the files of the steps, once they are joined and the cell file is written."""
    shutil.rmtree(folder_of(scores), ignore_errors=True)
