"""A cell on another machine, and its files on the way back.

Where the machine sees the results folder, the cell runs in there as it would at home: it goes on at the step where it
was lost, and one that has finished meanwhile is not run again. Elsewhere it runs in a folder that is thrown away, its
files are sent, and a lost one starts anew.
"""

import hashlib
import os
import socket
import sys
import tempfile
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from bench import data, results
from bench.backends import pool
from bench.errors import BadInput
from bench.schema.disk import locked
from bench.schema.execution import Execution
from bench.schema.request import Cell

MARK = Path(".lock", "mark")  # below the results folder
Files = dict[str, bytes]  # by path below the results folder; empty where they are in place


@dataclass(frozen=True)
class Job:
    """A cell, and what it takes to run it elsewhere."""

    cell: Cell  # its paths absolute
    root: Path  # the results folder, absolute
    mark: str  # what lies in its file MARK and nowhere else
    before: str  # digest of the cell's file as it was; "" if there was none
    threads: int
    loggers: tuple[str, ...]


def jobs(cells: Sequence[Cell], execution: Execution) -> list[Job]:
    """Make the cells ready to travel."""
    root = execution.results.resolve()
    file = root / MARK
    if not file.is_file():  # names the folder once and for all: only who sees this very folder can read it
        results.replace(file, uuid.uuid4().hex)
    mark, made = file.read_text(), []
    for cell in cells:
        asked = cell.request
        there = replace(
            asked,
            data=asked.data and asked.data.expanduser().resolve(),
            cache=asked.cache.expanduser().resolve(),
            plugins=tuple(Path(file).resolve() for file in asked.plugins),
        )
        before = _digest(results.cell_path(root, cell.spec))
        made.append(Job(replace(cell, request=there), root, mark, before, execution.threads, tuple(execution.loggers)))
    return made


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""


def work_on_job(job: Job, send: Callable[[dict], None]) -> tuple[dict, Files]:
    """Run a cell on this machine; `send` hears of its start, epochs and steps. Returns how it ended, and its files."""
    try:
        # The data set may be a copy on this machine: it must be the one that was planned with.
        asked, spec = job.cell.request, job.cell.spec
        size, plugins = spec["image_size"], asked.plugins
        found = data.load_arrays(job.cell.stream, asked.data, size, asked.cache, plugins=plugins)[1]
        if found != spec["fingerprint"]:
            raise BadInput(
                f"the images in {asked.data} have the fingerprint {found[:16]}, where this was started they have "
                f"{spec['fingerprint'][:16]}: copy the data set anew, or give a folder that all machines see."
            )
        mark = job.root / MARK
        if not mark.is_file() or mark.read_text() != job.mark:  # this machine does not see the results folder
            with tempfile.TemporaryDirectory(prefix="bench-") as folder:
                ended = _run(job, Path(folder), send)
                files = [path for path in sorted(Path(folder).rglob("*")) if path.is_file()]
                return ended, {str(path.relative_to(folder)): path.read_bytes() for path in files}
        lock = job.root / ".lock" / f"{job.cell.key}.lock"
        with locked(lock):  # a machine given up for lost may still be at work: two writers must never meet
            ended = _ended_before(job) or _run(job, job.root, send)
            lock.unlink(missing_ok=True)
        return ended, {}
    except BadInput as error:
        return {"done": "bad input", "reason": f"{socket.gethostname()}: {error}"}, {}


def _ended_before(job: Job) -> dict | None:
    """How the cell ended on a machine that was lost before it could say so; None if it has not."""
    path = results.cell_path(job.root, job.cell.spec)
    if _digest(path) in ("", job.before):
        return None
    record = results.read(path)
    if record["key"] != job.cell.key or record["status"] not in ("ok", "failed"):
        return None
    if record["status"] == "failed":
        return {"done": "failed", "reason": record["reason"]}
    # From its start to its end, resumed runs from their last start.
    started, finished = (datetime.fromisoformat(record["environment"][name]) for name in ("started", "finished"))
    return {"done": "ok", "seconds": (finished - started).total_seconds()}


def _run(job: Job, root: Path, send) -> dict:
    """Run the cell in a process of its own, as at home: if it crashes, that is its result, and nobody tries again."""
    ended = []

    def hear(cell, event: dict) -> None:
        if "done" in event:
            ended.append(event)
        else:
            send(event)

    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))  # the server imports what this process can
    given = {name: os.environ[name] for name in ("CUDA_VISIBLE_DEVICES",) if name in os.environ}
    with pool.without_main():
        pool.run_in_processes(
            pool.cell_server(), [job.cell], root, jobs=1, threads=job.threads, loggers=job.loggers, on_event=hear,
            environment=given,
        )  # fmt: skip
    return ended[0]


def receive(job: Job, files: Files) -> None:
    """Write the files that came back; the cell's own last, so that it never stands for what is not there.

    Raises:
        BadInput: if the disk does not take them.
    """
    own = results.cell_path(job.root, job.cell.spec)
    for path in sorted((job.root / name for name in files), key=lambda path: path == own):
        results.replace(path, files[str(path.relative_to(job.root))])
    if files and str(own.with_suffix(".ckpt").relative_to(job.root)) not in files:
        own.with_suffix(".ckpt").unlink(missing_ok=True)  # of an earlier run that was stopped
