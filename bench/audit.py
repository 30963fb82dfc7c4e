"""`bench run --audit`: a cell again, every step in a process of its own, must give the scores that it gave in one.

Between two steps only what is saved goes on: the detector's weights and each plugin's `state_dict`. A method that
keeps anything else (an attribute, a global of its module) gives other scores then, and its carried bytes are not told.
"""

import tempfile
from pathlib import Path

import numpy as np

from bench import results
from bench.backends import pool
from bench.results import stored
from bench.results.stored import Stored


def audit(context, cell, root: Path, threads: int) -> bool:
    """Audit a finished cell; write into its file that it passed, or failed and why. Returns whether it passed."""
    path = results.path_of(root, cell.spec)
    with tempfile.TemporaryDirectory(dir=root, prefix=".audit-") as folder:
        for _ in cell.stream.steps:
            pool.call(context, _next_step, cell, Path(folder), threads)
        again = results.path_of(Path(folder), cell.spec)
        fault = _fault(path, again)
    record = results.read(path)
    failed = {"status": "failed", "reason": f"AuditError: {fault}"}
    results.rewrite(path, record | (failed if fault else {"audited": True}))
    return not fault


def _next_step(cell, folder: Path, threads: int) -> None:
    from bench.runner import run

    run(cell, folder, threads=threads, at_most=1)


def _fault(path: Path, again: Path) -> str:
    record = results.read(again)
    if record["status"] != "ok":
        last = record["reason"].strip().splitlines()[-1:] or ["it came to no end"]
        return f"with every step in a process of its own it failed: {last[0]}"
    return difference(stored.read(stored.path_of(path)), stored.read(stored.path_of(again)))


def difference(one: Stored, other: Stored) -> str:
    """Where two runs part, in a sentence; "" if every score is the same."""
    for (step, name), scores in sorted(one.scores.items()):
        moved = float(np.abs(scores.astype(float) - other.scores[step, name]).max())
        if moved:
            return (
                f"after step {step} the scores of {name} differ by {moved:.3g} when every step runs in a process of "
                "its own: something is kept between steps outside the detector's weights and the plugins' state_dict."
            )
    return ""
