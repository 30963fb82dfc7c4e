"""Which test files need torch, and the imports for them; the others go without, and start in a moment."""

import ast
import atexit
import inspect
import linecache
import os
import socket
from collections.abc import Iterator
from contextlib import nullcontext
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parent
HEAVY = {"torch", "torchvision", "avalanche", "anomalib", "timm", "diffusers", "transformers", "lightning"}


@cache
def ready() -> int:
    """Import all third-party packages, their warnings silenced, and start the nursery for the steps of cells.

    Returns its process id.
    """
    import bench.backends.preload  # noqa: F401

    return fork_nursery()


def fork_nursery() -> int:
    """Let the steps of cells that this process runs be forked from what it is now; returns the id of what forks."""
    from bench.wall import nursery

    # Keeps the sources of what runs here, as if they had no file: who asks for a trace behind the wall cannot read it.
    inspect.stack()
    linecache.cache = {name: (size, None, *lines) for name, (size, _, *lines) in linecache.cache.items()}
    asking, forking = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    process = os.fork()
    if not process:  # as the fork server's would, it holds the imports and nothing of what tests make
        asking.close()
        nursery.serve(forking)
        os._exit(0)
    forking.close()
    atexit.register(asking.close)
    nursery.opened = lambda: nullcontext(nursery.Nursery(asking))
    return process


def needs_torch(path: Path) -> bool:
    """Whether a test file, or what it imports of the tests and of the project, imports torch or what is built on it.

    Imports within functions count for tests only: what the bench imports late, it imports where it runs something.
    """
    files = [path]
    for file in files:
        names = _imported_by(file)
        if HEAVY & {name.partition(".")[0] for name in names}:
            return True
        files += [other for other in map(_file, names) if other and other not in files]
    return False


@cache
def _imported_by(file: Path) -> list[str]:
    return list(dict.fromkeys(_imported(ast.parse(file.read_text()), late=file.parent == TESTS)))


def _imported(tree: ast.AST, *, late: bool) -> Iterator[str]:
    """Modules by dotted name, with the packages around them and what may be modules in them."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            names = []
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[:depth]) for depth in range(1, len(parts) + 1))
        typing = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if not typing and (late or not isinstance(node, ast.FunctionDef | ast.ClassDef)):
            yield from _imported(node, late=late)


@cache  # a test file may lead to a thousand names, and most are those of other libraries
def _file(name: str) -> Path | None:
    for root in (TESTS, TESTS.parent):
        stem = root.joinpath(*name.split("."))
        for file in (stem.with_suffix(".py"), stem / "__init__.py"):
            if file.is_file():
                return file
    return None
