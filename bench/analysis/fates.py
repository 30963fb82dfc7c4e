"""What becomes of a planned cell, by the record that there is of it: run, skipped, finished, failed before."""

from pathlib import Path

from bench import results
from bench.analysis.figures import kept_features, undisturbed
from bench.errors import BadInput
from bench.results import stored
from bench.schema.execution import Execution
from bench.schema.record import Record, kept_from
from bench.schema.request import Cell

RUN = "run"  # the fate of a cell that is run


def fate(cell: Cell, execution: Execution) -> str:
    """Whether a cell is to be run (`RUN`), or how it stands that is not.

    Raises:
        BadInput: where the data are others than those of a finished cell, or its file cannot be read.
    """
    if cell.skip:
        return f"skip: {cell.skip}"
    if not cell.spec["fingerprint"]:  # nobody knows without the data
        return RUN
    return RUN if _wanted(cell, execution) else _standing(cell, execution.results)


def _wanted(cell: Cell, execution: Execution) -> bool:
    path, redo = results.cell_path(execution.results, cell.spec), execution.redo
    if redo == "all" or not path.exists():
        return redo in ("missing", "all")
    try:
        old = results.read(path)
    except BadInput:
        if redo == "missing":
            raise
        return True
    if redo == "changed":
        return old["key"] != cell.key or _older_code(old, cell)
    if redo == "disturbed":
        timed = undisturbed(old) and (not kept_features(old) or cell.request.feature_cache)
        return old["status"] == "ok" and old["key"] == cell.key and not timed
    if old["status"] == "failed":
        return redo == "failed"
    if other := Record.differences(path, cell.spec):
        if redo == "missing" and "fingerprint" in other and "scenario_version" not in other:
            raise BadInput(kept_from(path, other))  # the user's data: what was asked for is neither there nor run
        return False  # the project's own defaults have moved on since
    unkept = cell.request.keep and not results.kept(path, len(cell.stream.steps) - 1).exists()
    stands = old.get("stored", {}).get("maps", False) and stored.scores_path(path).is_file()
    unsaved = cell.request.save_maps and not stands
    return redo == "missing" and (old["key"] != cell.key or old["status"] == "partial" or unkept or unsaved)


def _standing(cell: Cell, root: Path) -> str:
    """How a cell stands that will not be run."""
    path = results.cell_path(root, cell.spec)
    if not path.is_file():
        return "not run before"
    record = results.read(path)
    if record["status"] == "failed":
        return "failed before (--redo failed)"
    if other := Record.differences(path, cell.spec):
        return f"finished, with another {' and '.join(other)} (--redo changed)"
    return "finished, with older code (--redo changed)" if _older_code(record, cell) else "finished"


def _older_code(record: Record, cell: Cell) -> bool:
    """Whether a record was made by other source than a run would use now, or does not tell."""
    return record.get("code") != cell.code
