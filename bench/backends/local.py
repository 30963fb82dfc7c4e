"""On this machine: `--jobs` cells at a time, each in a process of its own."""

import os

from bench.backends import pool


def run(cells, options, on_event) -> None:
    """Run all cells; without a wall in this very process, so that a debugger reaches the method."""
    if cells[0].request.no_wall:
        from bench.runner import work

        for cell in cells:
            work(cell, options.results, _Events(cell, on_event), options.threads, options.logger)
        return
    gpu = cells[0].request.device != "cpu"
    jobs = options.jobs or (1 if gpu else min(os.cpu_count() or 1, 8))
    pool.run(
        pool.server(), cells, options.results, jobs=jobs, threads=options.threads, loggers=options.logger,
        on_event=on_event,
    )  # fmt: skip


class _Events:
    """Stands where a cell's process has a pipe."""

    def __init__(self, cell, on_event):
        self.cell, self.on_event = cell, on_event

    def send(self, event: dict) -> None:
        self.on_event(self.cell, event)
