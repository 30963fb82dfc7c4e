"""Continual visual anomaly detection, measured. Importing this package imports nothing heavy.

import bench

bench.run(bench.Request(methods=("finetune", "replay")), bench.Execution(results=Path("out/results")))
bench.load_results("out/results")  # a pandas.DataFrame, one row per cell
"""

# ruff: noqa: F401 - what stands under TYPE_CHECKING is for editors, which complete and explain from it

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.errors import BadInput
    from bench.schema.execution import Execution
    from bench.schema.request import Request
    from bench.session import compare, leaderboard, load_results, plan, rank, report, run

__version__ = "0.1.0"
HOMES = {"BadInput": "bench.errors", "Execution": "bench.schema.execution", "Request": "bench.schema.request"}
HOMES |= dict.fromkeys(("compare", "leaderboard", "load_results", "plan", "rank", "report", "run"), "bench.session")
__all__ = sorted(HOMES)


def __getattr__(name: str):
    if name not in HOMES:
        raise AttributeError(f"bench has no {name!r}")
    return getattr(import_module(HOMES[name]), name)
