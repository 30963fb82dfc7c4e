"""Cells in processes of their own, forked from a server that imported the libraries once."""

import multiprocessing
import os
import signal
import socket
import sys
import threading
import types
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import connection
from pathlib import Path

from bench.errors import BadInput


def cell_server() -> multiprocessing.context.BaseContext:
    """Return the context whose processes are forked from a server with `bench.backends.preload` imported."""
    from bench.wall import nursery

    return nursery.step_server()


@contextmanager
def without_main() -> Iterator[None]:
    """Hide the script that this process runs: every process forked from the server would import it again."""
    main, sys.modules["__main__"] = sys.modules["__main__"], types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


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
    except KeyboardInterrupt:
        process.terminate()  # this process would wait for it before it exits
        raise
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


def run_in_processes(
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
                events, *processes = start(context, cell, root, threads, loggers, environment or {})
                running[events] = (cell, *processes)
            for ready in connection.wait(list(running)):
                _hear(ready, running, on_event)
    finally:
        for _, process, _ in running.values():
            process.terminate()
        for _, process, nursery in running.values():
            process.join()
            nursery.join()


def start(context, cell, root: Path, threads: int, loggers: tuple, environment: dict[str, str]) -> tuple:
    """Start a cell: returns the end of a pipe that says its events, its process, and the one that forks its steps.

    The latter knows nothing of the cell, and ends with whatever it forked when the cell's process has gone.
    """
    events, theirs = context.Pipe(duplex=False)
    asking, forking = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    process = context.Process(target=_work, args=(cell, root, theirs, threads, loggers, asking, environment))
    nursery = context.Process(target=_fork_steps, args=(forking, environment))
    with theirs, asking, forking:
        nursery.start()
        process.start()
    return events, process, nursery


def _hear(ready, running: dict, on_event: Callable) -> None:
    cell, process, nursery = running[ready]
    try:
        on_event(cell, ready.recv())
    except EOFError:  # the process has ended, one way or another
        process.join()
        nursery.join()
        del running[ready]
        if process.exitcode:
            on_event(cell, {"done": "died", "reason": f"the process ended with exit code {process.exitcode}"})


def _work(cell, root: Path, events, threads: int, loggers: tuple, asking, environment: dict[str, str]) -> None:
    from bench.runner import work_on_cell
    from bench.wall.nursery import Nursery

    die_with_parent()
    os.environ.update(environment)
    work_on_cell(cell, root, events, threads, loggers, Nursery(asking))


def _fork_steps(forking: socket.socket, environment: dict[str, str]) -> None:
    from bench.wall.nursery import serve

    os.environ.update(environment)
    if "RAY_RAYLET_PID" in os.environ:
        os.setpgid(0, 0)  # Ray kills the process group of a cancelled cell at once; this ends by itself, and tidies up
    serve(forking)


def die_with_parent() -> None:
    """End this process as soon as the run is gone, even by `kill -9`: two writers must never meet."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    parent = multiprocessing.parent_process()

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
