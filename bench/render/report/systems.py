"""One page per results folder: R, curves, definitions, costs and provenance of its runs."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import PurePath

from bench import results
from bench.analysis import gap_to_joint as distance
from bench.analysis.figures import figures, own_times
from bench.analysis.labels import averaged_classes, last_line
from bench.analysis.pairing import system_name
from bench.analysis.rows import tuned_on
from bench.analysis.summary import classes_of, learned_at, stat
from bench.metrics.definitions import ALL
from bench.schema.cell import PER_STEP
from bench.schema.metric import headings, summarised
from bench.schema.record import Record

EMBEDDED = ("matrices", "pooled", "threshold", "routing_accuracy")  # of a cell, as its file has them


def system_address(folder: PurePath) -> str:
    """Where the page of a results folder lies in the site."""
    return f"systems/{folder.as_posix()}.html"


def by_folder(cells: Mapping[PurePath, Record]) -> dict[PurePath, list[Record]]:
    """The cells of each folder by seed, skipped pairs left out."""
    folders = defaultdict(list)
    for path, cell in cells.items():
        if cell["status"] != "skipped":
            folders[path.parent].append(cell)
    return {folder: sorted(found, key=lambda cell: cell["spec"]["seed"]) for folder, found in folders.items()}


def system(folder: PurePath, cells: Sequence[Record], joint: Sequence[Record] = ()) -> dict:
    """What the template shows of the runs in one folder; `joint`: finished joint cells, their references among them."""
    whole = [cell for cell in cells if cell["status"] == "ok"]
    numbers = [figures(cell) | distance.gap_figures(cell, joint) for cell in whole]
    defined = defaultdict(dict)  # of each definition the mean over seeds by metric, from R of complete cells
    for metric in ("image_auroc", "aupro"):
        of_runs = [distance.definitions_of(cell, metric, joint) for cell in whole if cell["matrices"].get(metric)]
        for name in ALL:
            defined[name][metric] = stat(run[name] for run in of_runs)
    embedded = []  # the measured lists of each run, untouched, for the plots
    for cell in cells:
        cost = own_times(cell)
        lists = {name: cell[name] for name in EMBEDDED} | {"cost": {name: cost.get(name) for name in PER_STEP}}
        lists |= {"over": {metric: classes_of(cell, metric) for metric in summarised()}}
        lists |= {"seed": cell["spec"]["seed"], "whole": cell["status"] == "ok", "learned_at": learned_at(cell)}
        embedded.append(results.plain(lists))
    return {
        "name": system_name(cells[0]["spec"]),
        "folder": folder.as_posix(),
        "spec": cells[0]["spec"],
        "capabilities": cells[0]["capabilities"],
        "tuned_on": tuned_on(cells),
        "masks": averaged_classes(cells),
        "runs": [_run(cell) for cell in cells],
        "measured": any(cell["matrices"] for cell in cells),
        "metrics": headings(),
        "figures": {name: stat(found[name] for found in numbers) for name in numbers[0]} if numbers else {},
        "definitions": [(name, definition, defined[name]) for name, definition in ALL.items()],
        "data": {"classes": cells[0]["spec"]["classes"], "metrics": headings(), "runs": embedded},
    }


def _run(cell: Record) -> dict:
    return {
        "seed": cell["spec"]["seed"],
        "status": cell["status"],
        "reason": cell["reason"],
        "last_line": last_line(cell["reason"]) if cell["reason"] else "",
        "environment": cell["environment"],
        "key": cell["key"],
    }


def definitions() -> dict:
    """Formula, source and needs of every definition."""
    return {"definitions": ALL}
