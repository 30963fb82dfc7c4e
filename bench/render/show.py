"""One result in full: R per metric, every definition of forgetting, cost per step, where and from what it ran."""

import fnmatch
import json
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import zip_longest
from pathlib import Path
from textwrap import fill

import numpy as np

from bench import results
from bench.analysis import gap_to_joint as distance
from bench.analysis.figures import figures
from bench.analysis.summary import classes_of, learned_at
from bench.errors import BadInput
from bench.metrics.matrix import forgetting
from bench.schema.cell import FEATURES, MICRO_BATCH, PER_STEP, RAW_ERROR, Cell
from bench.schema.metric import METRICS

MISSING = "—"
WIDE = 30  # classes; more columns than that are no table any more
EVERY_ROW = "the scores after every step"


def show(cell: str, root: Path = Path("results")) -> str:
    """Text for `bench show CELL`: a path, or `scenario/method+detector[,options][/seed]`, with * and ? as wildcards.

    Raises BadInput where nothing fits; several cells follow one another.
    """
    pages = []
    for path in find_cells(cell, root):
        found, joint = results.read(path), []
        # Joint training with the same detector and seed lies in the folders beside that of the file.
        for file in sorted(path.parent.parent.glob(f"{distance.JOINT}+{found['spec']['detector']}*/{path.name}")):
            with suppress(BadInput):
                joint.append(results.read(file))
        pages.append(cell_text(path, found, distance.joint_cells(joint)))
    return "\n\n".join(pages) + "\n"


def find_cells(cell: str, root: Path) -> list[Path]:
    """Files that `cell` names, sorted. Raises BadInput with the nearest names where there is none."""
    if Path(cell).is_file():
        return [Path(cell)]
    paths = sorted(Path(root).rglob("seed-*.json"))
    names = [path.relative_to(root).with_suffix("").as_posix() for path in paths]
    short = [re.sub(r",[0-9a-f]{8}(?=/seed-)", "", name) for name in names]  # the hash may be left out
    wanted = {cell, f"{cell}/seed-*", "/seed-".join(cell.rsplit("/", 1))}
    found = [
        path for path, *known in zip(paths, names, short, strict=True)
        if any(fnmatch.fnmatchcase(name, one) for name in known for one in wanted)
    ]  # fmt: skip
    if not found:
        from difflib import get_close_matches

        near = ", ".join(get_close_matches(cell, names, 3, 0.3)) or "nothing"
        raise BadInput(f"no result {cell!r} in {root}: give a path or scenario/method+detector/seed; nearest: {near}")
    return found


def cell_text(path: Path, cell: Cell, joint: Sequence[Cell] = ()) -> str:
    """The page of one cell; `joint`: finished joint cells, of which one may be its reference."""
    spec = cell["spec"]
    system = f"{spec['method']}+{spec['detector']}" + (f",{spec['variant']}" if spec["variant"] else "")
    head = [f"{spec['scenario']}@{spec['scenario_version']} {system} seed {spec['seed']}: {cell['status']}", f"{path}"]
    if cell["capabilities"]:
        head.append(f"declares: {', '.join(cell['capabilities'])}")
    if cell.get("tuned_on"):
        head.append(f"tuned on: {'; '.join(cell['tuned_on'])}")
    if "wall" in cell:
        closed = ", ".join(cell["wall"]["closed"])
        head.append(f"confined: {closed} closed to the method" if closed else "not confined")
        head += [f"refused: {what}" for what in cell["wall"].get("refused", ())]
    head += [f"data: {line}" for line in cell.get("data", ())]
    if "external" in spec:
        head.append("external: scores by {author}, {reference}".format(**spec["external"]))
    parts = ["\n".join(head)]
    if cell["reason"]:
        parts.append(cell["reason"].rstrip())
    parts += _matrices(cell)
    if cell["status"] == "ok":
        numbers = figures(cell) | distance.gap_figures(cell, joint)
        lines = [[name, _amount(value)] for name, value in numbers.items()]
        parts += [_forgetting(cell, joint), f"Figures\n{_grid(['', 'value'], lines)}"]
    if any(cell["matrices"].values()):
        parts.append(_steps(cell))
    parts += _notes(cell)
    parts += [_pairs("spec", spec), _pairs("environment", cell["environment"])]
    return "\n\n".join(parts)


def _grid(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    from tabulate import tabulate

    align = ["left"] + ["right"] * (len(head) - 1)
    return tabulate(lines, head, tablefmt="simple", disable_numparse=True, colalign=align)


def _number(value: float | None, digits: int = 3) -> str:
    return MISSING if value is None or math.isnan(value) else f"{value:.{digits}f}"


def _matrices(cell: Cell) -> Iterator[str]:
    """R of each metric: rows = after step (from 1), columns = classes; the last column is the mean of the classes seen.

    Steps after which nothing was evaluated have no line. Of more than `WIDE` classes there is a line for each instead.
    """
    classes, learned = cell["spec"]["classes"], learned_at(cell)
    for metric, matrix in cell["matrices"].items():
        rows = {step: row for step, row in enumerate(matrix) if any(map(math.isfinite, row))}
        if not rows:
            continue
        title = metric
        over = classes_of(cell, metric) if metric in METRICS else classes
        if len(over) < len(classes):
            title += f" (over {len(over)} of {len(classes)} classes: those with masks)"
        if metric == RAW_ERROR:  # the one matrix in which lower is better
            rise = _number(forgetting(-np.array(matrix), learned), 4)
            title += f" (normal test images, unguided; lower is better); forgetting, final - lowest earlier: {rise}"
        lines = []
        if len(classes) > WIDE:
            last = max(rows)
            head = ["class", "learned in step", "just learned", f"after step {last + 1}"]
            for column, (name, since) in enumerate(zip(classes, learned, strict=True)):
                just_learned = rows[since][column] if since in rows else None
                lines.append([name, str(since + 1), _number(just_learned), _number(rows[last][column])])
        else:
            head = ["", *classes, "seen so far"]
            for step, row in rows.items():
                told = zip(classes, row, learned, strict=True)
                seen = [value for name, value, since in told if since <= step and name in over]
                mean = sum(seen) / len(seen) if seen else None
                lines.append([f"after step {step + 1}", *map(_number, row), _number(mean)])
        yield f"{title}\n{_grid(head, lines)}"


def _forgetting(cell: Cell, joint: Sequence[Cell]) -> str:
    """Every definition, from the image AUROC and AUPRO matrices; a value that cannot be had says what it needs."""
    from tabulate import tabulate

    from bench.metrics import definitions

    shown = [metric for metric in ("image_auroc", "aupro") if cell["matrices"].get(metric)]
    found = [distance.definitions_of(cell, metric, joint) for metric in shown]
    lines = []
    for name, definition in definitions.ALL.items():
        numbers = [values[name] for values in found]
        needs = definition.needs or (EVERY_ROW if "eval_every" in cell["spec"] else "")
        lacks = f"not defined: needs {needs}; " if needs and all(map(math.isnan, numbers)) else ""
        lines.append([name, *map(_number, numbers), definition.formula, lacks + definition.source])
    text = tabulate(lines, ["", *shown, "formula", "source"], tablefmt="simple", disable_numparse=True)
    return f"From R; worked by hand in docs/definitions.md\n{text}"


def _steps(cell: Cell) -> str:
    cost = {name: cell["cost"].get(name) or [] for name in (*PER_STEP, *FEATURES, MICRO_BATCH)}
    pooled = {f"pooled {name}": values for name, values in cell["pooled"].items()}
    threshold = {f"threshold {name}": values for name, values in cell["threshold"].items()}
    routing = {"routing accuracy": cell["routing_accuracy"]} if cell["routing_accuracy"] else {}
    return f"Per step\n{_columns(cost | pooled | threshold | routing)}"


def _notes(cell: Cell) -> Iterator[str]:
    """What the method reports of itself, and how true its memory is."""
    if cell.get("notes"):
        yield f"Notes\n{_columns(cell['notes'])}"


def _columns(values: dict[str, Sequence[float]]) -> str:
    """One line per step, one column per name."""
    columns = {name: numbers for name, numbers in values.items() if numbers}
    by_step = enumerate(zip_longest(*columns.values(), fillvalue=math.nan), start=1)
    return _grid(["step", *columns], [[str(step), *map(_amount, numbers)] for step, numbers in by_step])


def _amount(value: float) -> str:
    return MISSING if math.isnan(value) else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _pairs(title: str, values: dict) -> str:
    shown = {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}
    lines = [fill(f"  {key}: {value}", 80, subsequent_indent="    ") for key, value in shown.items()]
    return "\n".join([title, *lines])
