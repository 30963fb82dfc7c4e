"""The best rows at a glance, and one result in full: R per metric, every definition of forgetting, cost per step."""

import fnmatch
import json
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import zip_longest
from pathlib import Path
from shutil import get_terminal_size

import numpy as np

from bench import results
from bench.analysis import gap_to_joint as distance
from bench.analysis.figures import figures
from bench.analysis.pairing import system_name
from bench.analysis.race import out_of_race
from bench.analysis.summary import classes_of, learned_at
from bench.errors import BadInput
from bench.metrics.matrix import forgetting
from bench.render import outcome
from bench.render.leaderboard import read_sections
from bench.schema.cell import FEATURES, MICRO_BATCH, PER_STEP, RAW_ERROR
from bench.schema.metric import METRICS
from bench.schema.record import Record

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


def cell_text(path: Path, cell: Record, joint: Sequence[Record] = ()) -> str:
    """The page of one cell; `joint`: finished joint cells, of which one may be its reference."""
    spec = cell["spec"]
    name = f"{spec['scenario']}@{spec['scenario_version']} {system_name(spec)} seed {spec['seed']}"
    head = [f"{name}: {cell['status']}", f"{path}"]
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


def best_rows(root: Path) -> str:
    """Text for `bench show`: the best ranked rows of each table, up to three, as many as the screen has room for."""
    grouped, _ = read_sections(root)
    if not grouped:
        raise BadInput(f"no results in {root} yet: `bench run` writes them")
    room = max(1, min(3, (get_terminal_size().lines - 6) // len(grouped) - 1))
    tables, names = [], []
    for section in grouped:
        rows = [row for row in section.rows if not out_of_race(row)]
        rows = sorted(rows, key=lambda row: -row.stat("final_image_auroc").mean)[:room]
        names += [f"{row.spec['scenario']}/{system_name(row.spec)}" for row in rows]
        shown = [f"{row.spec['method']}+{row.spec['detector']}{' …' * bool(row.spec['variant'])}" for row in rows]
        tables.append((section.title, [(name, *outcome.line(row)) for name, row in zip(shown, rows, strict=True)]))
    width = max([len(name) for _, rows in tables for name, *_ in rows], default=0)
    text = [f"{'best ranked rows':{width}}  {'image AUROC':>13}  {'forgetting':>10}  {'MB':>6}"]
    for title, rows in tables:
        text.append(title)
        text += [f"  {name:{width}}{auroc:>13}  {lost:>10}  {carried:>6}" for name, auroc, lost, _, carried in rows]
    text += ["", f"all rows: {root / 'leaderboard.csv'}"]
    text += [f"one in full: bench show '{min(names, key=len)}'"] if names else []
    return "\n".join(text)


def _grid(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table as wide as the terminal; columns that have no room stand below, each time with the first column."""
    from tabulate import tabulate

    lengths = [max([len(name) + 2, *map(len, column)]) for name, *column in zip(head, *lines, strict=True)]
    parts, room = [[0]], get_terminal_size().columns - lengths[0]
    for place, length in enumerate(lengths[1:], start=1):
        if len(parts[-1]) > 1 and sum(lengths[p] + 2 for p in parts[-1][1:]) + length + 2 > room:
            parts.append([0])
        parts[-1].append(place)
    return "\n\n".join(
        tabulate(
            [[line[place] for place in part] for line in lines], [head[place] for place in part], tablefmt="simple",
            disable_numparse=True, colalign=["left"] + ["right"] * (len(part) - 1),
        )
        for part in parts
    )  # fmt: skip


def _number(value: float | None, digits: int = 3) -> str:
    return MISSING if value is None or math.isnan(value) else f"{value:.{digits}f}"


def _matrices(cell: Record) -> Iterator[str]:
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


def _forgetting(cell: Record, joint: Sequence[Record]) -> str:
    """Every definition, from the image AUROC and AUPRO matrices; a value that cannot be had says what it needs."""
    from bench.metrics import definitions

    shown = [metric for metric in ("image_auroc", "aupro") if cell["matrices"].get(metric)]
    found = [distance.definitions_of(cell, metric, joint) for metric in shown]
    lines, formulas = [], []
    for name, definition in definitions.ALL.items():
        numbers = [values[name] for values in found]
        needs = definition.needs or (EVERY_ROW if "eval_every" in cell["spec"] else "")
        lacks = f"not defined: needs {needs}; " if needs and all(map(math.isnan, numbers)) else ""
        lines.append([name, *map(_number, numbers)])
        formulas.append(f"  {name}: {definition.formula} {lacks}{definition.source}")
    title = "From R; worked by hand in docs/definitions.md"
    return "\n".join([title, _grid(["", *shown], lines), "", *formulas])


def _steps(cell: Record) -> str:
    cost = {name: cell["cost"].get(name) or [] for name in (*PER_STEP, *FEATURES, MICRO_BATCH)}
    pooled = {f"pooled {name}": values for name, values in cell["pooled"].items()}
    threshold = {f"threshold {name}": values for name, values in cell["threshold"].items()}
    routing = {"routing accuracy": cell["routing_accuracy"]} if cell["routing_accuracy"] else {}
    return f"Per step\n{_columns(cost | pooled | threshold | routing)}"


def _notes(cell: Record) -> Iterator[str]:
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
    return "\n".join([title, *(f"  {key}: {value}" for key, value in shown.items())])
