"""Cells in processes of their own, forked from a server that imported the libraries once."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing import connection
from pathlib import Path

from bench.errors import BadInput

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",  # until a cell sets its own number; a pool of threads must not exist before the fork
    "TQDM_DISABLE": "1",  # anomalib's bars would run through ours
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


def server() -> multiprocessing.context.BaseContext:
    """Return the context whose processes are forked from a server with `bench.preload` imported."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bench.preload"])
    return context


def call(context, function: Callable, *arguments):
    """Run `function` in a process of its own and return what it returns.

    Raises:
        BadInput: what the function raised as such; RuntimeError if the process died or raised anything else.
    """
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(theirs, function, arguments))
    process.start()
    theirs.close()
    try:
        kind, value = ours.recv()
    except EOFError:
        process.join()
        raise RuntimeError(f"the planning process died with exit code {process.exitcode}") from None
    process.join()
    if kind == "bad input":
        raise BadInput(value)
    if kind == "error":
        raise RuntimeError(value)
    return value


def _answer(answer, function: Callable, arguments: tuple) -> None:
    import traceback
    import warnings

    die_with_parent()
    warnings.simplefilter("ignore")
    try:
        answer.send(("value", function(*arguments)))
    except BadInput as error:
        answer.send(("bad input", str(error)))
    except Exception:
        answer.send(("error", traceback.format_exc()))


def run(
    context,
    cells: Sequence,
    root: Path,
    *,
    jobs: int,
    threads: int,
    loggers: tuple,
    on_event: Callable,
    environment: dict[str, str] | None = None,
) -> None:
    """Run all cells, at most `jobs` at a time; `on_event(cell, event)` hears of everything, deaths included.

    `environment` holds variables that are set in the cells' processes only.
    """
    waiting, running = deque(cells), {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                cell = waiting.popleft()
                ours, theirs = context.Pipe(duplex=False)
                process = context.Process(target=_work, args=(cell, root, theirs, threads, loggers, environment or {}))
                process.start()
                theirs.close()
                running[ours] = (cell, process)
            for ready in connection.wait(list(running)):
                _hear(ready, running, on_event)
    finally:
        for _, process in running.values():
            process.terminate()
        for _, process in running.values():
            process.join()


def _hear(ready, running: dict, on_event: Callable) -> None:
    cell, process = running[ready]
    try:
        on_event(cell, ready.recv())
    except EOFError:  # the process has ended, one way or another
        process.join()
        del running[ready]
        if process.exitcode:
            on_event(cell, {"done": "died", "reason": f"the process ended with exit code {process.exitcode}"})


def _work(cell, root: Path, events, threads: int, loggers: tuple, environment: dict[str, str]) -> None:
    from bench.runner import work

    die_with_parent()
    os.environ.update(environment)
    work(cell, root, events, threads, loggers)


def die_with_parent() -> None:
    """End this process as soon as the run is gone, even by `kill -9`: two writers must never meet."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    parent = multiprocessing.parent_process()

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
