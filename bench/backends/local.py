"""On this machine: `--jobs` cells at a time, each in a process of its own."""

import os

from bench.backends import pool


def run(cells, options, on_event) -> None:
    """Run all cells."""
    gpu = cells[0].request.device != "cpu"
    jobs = options.jobs or (1 if gpu else min(os.cpu_count() or 1, 8))
    pool.run(
        pool.server(), cells, options.results, jobs=jobs, threads=options.threads, loggers=options.logger,
        on_event=on_event,
    )  # fmt: skip
