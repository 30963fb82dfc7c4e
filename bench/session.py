"""What one asks of the bench, as typed functions: run cells, read results, compare, rank, write tables and pages.

The command line parses and prints; everything else of it is here, and a notebook calls the same functions.
"""

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from bench import backends, registry, results
from bench.analysis import ranks
from bench.analysis.estimate import Estimate, estimate, expected_seconds
from bench.analysis.fates import RUN, fate
from bench.analysis.pairing import Pairing, pair
from bench.backends import pool
from bench.errors import BadInput
from bench.render import leaderboard as tables
from bench.render.leaderboard.lines import section_lines
from bench.render.progress import Watch
from bench.schema import stream
from bench.schema.execution import Execution
from bench.schema.record import Record
from bench.schema.request import Cell, Request

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class Planned:
    """The cells of a request, and the fate of each: `run`, `skip: ...`, `finished`, `failed before ...`, ..."""

    cells: list[Cell]
    fates: list[str]

    @property
    def todo(self) -> list[Cell]:
        """Those that run."""
        return [cell for cell, fate in zip(self.cells, self.fates, strict=True) if fate == RUN]


@dataclass(frozen=True)
class Outcome(Planned):
    """What has become of a plan."""

    failed: list[Cell]
    written: tuple[Path, ...]  # leaderboard.md, leaderboard.csv, the folder of tables

    @property
    def ok(self) -> bool:
        """Whether nothing failed, now or before."""
        return not self.failed and not any(fate.startswith("failed") for fate in self.fates)


def plan(request: Request, execution: Execution = Execution()) -> Planned:  # noqa: B008 - it is frozen
    """The cells that `run` would run, and how the others stand; trains nothing.

    Raises:
        BadInput: for the first thing that could not be run.
    """
    backends.find_backend(request, execution)
    with results.lock(execution.results), pool.without_main():
        return _planned(request, execution)


def run(request: Request, execution: Execution = Execution()) -> Outcome:  # noqa: B008
    """Run the cells of a request that are not finished, each in processes of its own, then write the tables.

    Stopped at any moment, the same call goes on where that was.

    Raises:
        BadInput: for the first thing that could not be run, before anything is trained.
    """
    backend = backends.find_backend(request, execution)
    with results.lock(execution.results), pool.without_main():
        planned = _planned(request, execution)
        for cell in planned.cells:
            if cell.skip:
                results.write_cell(execution.results, results.blank(cell.spec, cell.capabilities, "skipped", cell.skip))
        try:
            failed = _run(backend, planned, execution)
        except (BadInput, KeyboardInterrupt) as stop:
            with suppress(BadInput):  # what has run is shown, whatever stopped the rest
                page, *_ = tables.write_leaderboard(execution.results)
                if isinstance(stop, KeyboardInterrupt):
                    stop.args = (f"the same command goes on from here; what has finished is in {page}",)
            raise
        written = tables.write_leaderboard(execution.results)
    return Outcome(planned.cells, planned.fates, failed, written)


def estimates(planned: Planned, execution: Execution = Execution()) -> tuple[str, dict[str, Estimate | None]]:  # noqa: B008
    """The kind of machine, and what each cell that runs will cost on it, by name; None where nobody knows.

    By what cells in the same results folder cost. The machine is "" where cells run on others than this one.
    """
    machine = ""
    if execution.backend == "local" and planned.cells:
        with pool.without_main():
            machine = pool.call(pool.cell_server(), _machine, planned.cells[0].request.device)
    earlier = [(path, cell) for path, cell in results.scan(execution.results) if not isinstance(cell, BadInput)]
    return machine, {cell.name: estimate(cell, earlier, machine) for cell in planned.todo}


def script(request: Request, execution: Execution) -> str:
    """The script that `run` would give to sbatch; "" where all cells are finished.

    Raises:
        BadInput: as `run`, and for another back-end than Slurm.
    """
    if execution.backend != "slurm":
        raise BadInput(f"--dry-run belongs to --backend slurm; this run has --backend {execution.backend}.")
    todo = plan(request, execution).todo
    return backends.find_backend(request, execution).slurm_script(len(todo), execution) if todo else ""


def load_results(root: str | Path = "results") -> "DataFrame":
    """One row per cell below a results folder, as in its leaderboard.csv: what it is, then every figure of it.

    `final_`, `forgetting_`, `plasticity_`, `bwt_` and `step_average_` stand before the id of a metric. NaN: not
    measured.

    Raises:
        BadInput: if there is no such folder.
    """
    from pandas import DataFrame

    grouped, _ = tables.read_sections(_folder(root))
    return DataFrame([line for section in grouped for line in section_lines(section)])


def compare(
    first: str, second: str, root: str | Path = "results", *, metric: str = "image_auroc", scenario: str = ""
) -> list[Pairing]:
    """Two systems (method+detector[,options]) run by run and class by class, in each setting that both were run in.

    Raises:
        BadInput: for a name that fits nothing or several systems, two that share no run, or an unknown metric.
    """
    return pair(first, second, _cells(root), metric, scenario)


def rank(
    methods: Sequence[str] = (), root: str | Path = "results", *, metric: str = "image_auroc", scenario: str = ""
) -> ranks.Contest:
    """Three or more methods, or all, over the scenarios and detectors that have them: Friedman and Nemenyi.

    Raises:
        BadInput: for unknown names, or fewer than three methods or two blocks.
    """
    return ranks.contest(_cells(root), metric, methods, scenario)


def leaderboard(root: str | Path = "results", markdown: Path | None = None) -> tuple[Path, ...]:
    """Write the tables of a results folder anew, without running anything; returns leaderboard.md, .csv, and what else.

    Raises:
        BadInput: if there is no such folder, or it cannot be written.
    """
    return tables.write_leaderboard(_folder(root), markdown)


def report(root: str | Path = "results", out: str | Path = "out/report") -> Path:
    """Write the results as pages with plots; returns the first one.

    Raises:
        BadInput: where there is nothing to report or nowhere to write.
    """
    from bench.render.report import write_report

    return write_report(_folder(root), Path(out))


def _folder(root: str | Path) -> Path:
    if not Path(root).is_dir():
        raise BadInput(f"no folder {str(root)!r}: give the one that a run wrote its results to")
    return Path(root)


def _cells(root: str | Path) -> list[Record]:
    return [cell for _, cell in results.scan(_folder(root)) if not isinstance(cell, BadInput)]


def _planned(request: Request, execution: Execution) -> Planned:
    for kind, names in (("method", request.methods), ("detector", request.detectors)):
        for name in names:  # a misspelt one is told before anything heavy is imported
            if name != "all":
                registry.find_entry(kind, name, request.plugins)
    for name in request.scenarios:
        stream.load_stream(name)
    if execution.redo == "disturbed" and execution.backend == "local" and execution.jobs != 1:
        raise BadInput("--redo disturbed asks for undisturbed times: give --jobs 1 too, cells side by side have none.")
    from rich.console import Console

    from bench.wall import nursery

    # On a terminal only, and gone before anything else is said: an error stays one line.
    waiting = Console(stderr=True).status("importing libraries, checking methods and data ...")
    with waiting, nursery.opened() as forks:
        cells = pool.call(pool.cell_server(), _cells_of, request, execution, forks.end)
    for note in dict.fromkeys(note for cell in cells for note in cell.notes):
        _tell_once(note)
    return Planned(cells, [fate(cell, execution) for cell in cells])


@cache
def _tell_once(note: str) -> None:
    """To a series of runs on the same data, too."""
    print(note, file=sys.stderr)


def _cells_of(request: Request, execution: Execution, end=None) -> list[Cell]:
    from bench.runner.plan import plan_cells
    from bench.training.device import resolve_device
    from bench.wall.nursery import Nursery

    device = backends.device(request, execution) or resolve_device(request.device)
    return plan_cells(replace(request, device=device), end and Nursery(end))


def _machine(device: str) -> str:
    from bench.runner.environment import machine

    return machine(device)


def _run(backend, planned: Planned, execution: Execution) -> list[Cell]:
    """Run them all, the cheap ones first, so that the first rows are there soon; returns those that failed or died."""
    todo = planned.todo
    if not todo:
        return []
    for cell in todo:
        path = results.cell_path(execution.results, cell.spec)
        if execution.redo == "all":
            path.with_suffix(".ckpt").unlink(missing_ok=True)
        if execution.redo in ("all", "changed") and Record.differences(path, cell.spec):
            path.unlink()  # asked for: nothing else lets a finished result go
    seconds = expected_seconds([cell.spec for cell in todo], execution.results)
    order = sorted(range(len(todo)), key=seconds.__getitem__)
    standing = [cell for cell, fate in zip(planned.cells, planned.fates, strict=True) if fate != RUN and not cell.skip]
    places = [results.cell_path(execution.results, cell.spec) for cell in standing]
    before = [results.read(path) for path in places if path.is_file()]
    with Watch({todo[i].name: seconds[i] for i in order}, execution.results, before) as watch:
        backend.run([todo[i] for i in order], execution, watch)
    for cell, reason in watch.ended.get("died", ()):
        # The steps that it told of before its process went, and why there are no more.
        record = results.blank(cell.spec, cell.capabilities, "failed", reason)
        with suppress(BadInput):
            old = results.read(results.cell_path(execution.results, cell.spec))
            if old["key"] == cell.key and old["status"] == "partial":
                record = old | {"status": "failed", "reason": reason}
        results.write_cell(execution.results, record)
    if watch.ended.get("bad input"):
        raise BadInput(watch.ended["bad input"][0][1])
    return [cell for how in ("failed", "died") for cell, _ in watch.ended.get(how, ())]
