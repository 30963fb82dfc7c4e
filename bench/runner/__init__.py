"""Runs cells: `plan` says which, `cell` how one goes from its first step to its record."""

import warnings
from pathlib import Path

from bench.errors import BadInput
from bench.runner.cell import run_cell
from bench.schema.request import Cell

__all__ = ["run_cell", "work_on_cell"]


def work_on_cell(cell: Cell, root: Path, connection, threads: int, logger_names: tuple[str, ...], nursery=None) -> None:
    """The body of a cell's process: run, and send every event to the parent."""
    from bench.runner.loggers import make

    warnings.simplefilter("ignore")  # third-party chatter; what matters becomes an event or a traceback
    try:
        run_cell(cell, root, connection.send, threads=threads, loggers=make(logger_names, cell, root), nursery=nursery)
    except BadInput as error:
        connection.send({"done": "bad input", "reason": str(error)})
