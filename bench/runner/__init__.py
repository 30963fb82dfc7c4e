"""Runs one cell to its end, or to its failure, which is a result too."""

import time
import traceback
import warnings
from pathlib import Path

from bench import results
from bench.errors import BadInput
from bench.runner.environment import make_deterministic
from bench.runner.steps import Emit, Run
from bench.schema.request import Cell


def run(
    cell: Cell,
    root: Path,
    emit: Emit = lambda event: None,
    *,
    threads: int = 1,
    loggers=(),
    at_most: int | None = None,
) -> None:
    """Run one cell to its end, or by `at_most` steps from where it stands; a crash is written down as its result.

    Raises:
        BadInput: if the results cannot be saved.
    """
    make_deterministic(threads)
    start = time.perf_counter()
    under_way = None
    try:
        under_way = Run(cell, root, emit, loggers)
        first = under_way.resume()
        steps = len(cell.stream.steps)
        emit({"start": first, "steps": steps})
        last = steps if at_most is None else min(steps, first + at_most)
        for t in range(first, last):
            under_way.step(t)
        if last < steps:
            return
        under_way.finish()
        emit({"done": "ok", "seconds": time.perf_counter() - start})
    except BadInput:
        raise
    except Exception:  # a crash is a row of the table, with its traceback
        reason = traceback.format_exc()
        record = under_way.record("failed", reason) if under_way else None
        results.write(root, record or results.blank(cell.spec, cell.capabilities, "failed", reason))
        emit({"done": "failed", "reason": reason})


def work(cell: Cell, root: Path, connection, threads: int, logger_names: tuple[str, ...]) -> None:
    """The body of a cell's process: run, and send every event to the parent."""
    from bench.runner.loggers import make

    warnings.simplefilter("ignore")  # third-party chatter; what matters becomes an event or a traceback
    try:
        run(cell, root, connection.send, threads=threads, loggers=make(logger_names, cell, root))
    except BadInput as error:
        connection.send({"done": "bad input", "reason": str(error)})
