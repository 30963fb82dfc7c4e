"""On this machine: `--jobs` cells at a time, each in a process of its own."""

import os
from collections.abc import Callable, Sequence

from bench.backends import pool
from bench.schema.execution import Execution
from bench.schema.request import Cell


def run(cells: Sequence[Cell], execution: Execution, on_event: Callable) -> None:
    """Run all cells; without a wall in this very process, so that a debugger reaches the method."""
    if cells[0].request.no_wall:
        from bench.runner import work_on_cell

        for cell in cells:
            work_on_cell(cell, execution.results, _Events(cell, on_event), execution.threads, execution.loggers)
        return
    gpu = cells[0].request.device != "cpu"
    jobs = execution.jobs or (1 if gpu else min(os.cpu_count() or 1, 8))
    pool.run_in_processes(
        pool.cell_server(), cells, execution.results, jobs=jobs, threads=execution.threads, loggers=execution.loggers,
        on_event=on_event,
    )  # fmt: skip


class _Events:
    """Stands where a cell's process has a pipe."""

    def __init__(self, cell, on_event):
        self.cell, self.on_event = cell, on_event

    def send(self, event: dict) -> None:
        self.on_event(self.cell, event)
