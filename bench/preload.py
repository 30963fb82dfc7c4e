"""Imported once by the fork server, so that each process starts in milliseconds. CUDA stays untouched.

The libraries are those that the project's methods import; the methods themselves are not, since whatever a plugin runs
it runs behind the wall.
"""

import ast
import importlib
import logging
import sys
import warnings
from pathlib import Path

import bench

OWN = ("bench", "methods", "scenarios")


def libraries(folder: Path) -> list[str]:
    """Modules of others that the files below a folder import, wherever in the file."""
    nodes = [node for path in sorted(folder.rglob("*.py")) for node in ast.walk(ast.parse(path.read_text()))]
    found = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    found |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
    return sorted(name for name in found if name.partition(".")[0] not in OWN)


with warnings.catch_warnings():  # what third-party packages warn of while they import each other is not ours to mend
    warnings.simplefilter("ignore")
    for name in [*libraries(Path(bench.__file__).parents[1] / "methods"), "torch._dynamo"]:  # an optimizer's first step
        if name.partition(".")[0] not in sys.stdlib_module_names:
            importlib.import_module(name)

    import bench.runner
    import bench.runner.loggers
    import bench.runner.plan
    import bench.wall.child

    for name in ("methods.detectors", "scenarios"):  # packages alone: behind the wall nobody may list their folder
        importlib.import_module(name)

# Eight lines of retries per file where there is no network; the bench says once that it fetches something.
logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
# One line per model that is loaded, telling that a package is absent which nothing here needs.
logging.getLogger("diffusers.models.modeling_utils").setLevel(logging.ERROR)
