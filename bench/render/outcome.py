"""What a run came to, for a terminal of 80 columns: how cells ended, and a table per scenario and set of data."""

from collections import Counter
from collections.abc import Iterable, Iterator

from rich import box
from rich.table import Table
from rich.text import Text

from bench import registry
from bench.analysis.groups import Section, sections
from bench.analysis.labels import MARKS
from bench.analysis.rows import Row
from bench.render.leaderboard.tables import MISSING, amount, score_text
from bench.schema.record import Record

NUMBERS = ("image AUROC", "forgetting", "pixel AUPRO", "carried MB")
WIDTH = 80


def fate_lines(outcome) -> Iterator[str]:
    """How many cells ran, and why others did not."""
    skipped = [cell.skip for cell in outcome.cells if cell.skip]
    finished = sum(fate.startswith("finished") for fate in outcome.fates)
    ran, failed = len(outcome.todo) - len(outcome.failed), len(outcome.failed)
    yield f"{ran} cells ran, {failed} failed, {finished} were finished before, {len(skipped)} skipped."
    rest = [fate.removeprefix("finished, ") for fate in outcome.fates if fate not in ("finished", "run")]
    other = Counter(fate for fate in rest if not fate.startswith("skip: "))
    yield from (f"{count} {fate}" for fate, count in other.items())
    yield from (f"skipped: {reason}" for reason in dict.fromkeys(skipped))


def other_detectors(cells, plugins) -> Iterator[str]:
    """Of each method that fits none of the detectors asked for, those that it fits, shortest names first."""
    for name in dict.fromkeys(cell.spec["method"] for cell in cells if cell.skip):
        method, detectors = registry.find_entry("method", name, plugins), registry.found_entries("detector", plugins)
        fitting = {detector.name for detector in detectors.values() if not registry.misfit(method, detector)}
        if not fitting & {cell.spec["detector"] for cell in cells}:
            names = ", ".join(sorted(fitting, key=lambda one: (len(one), one)))
            yield f"{name} fits {names}: give one of them with --detectors"


def tables(cells: Iterable[Record]) -> list[Table]:
    """Rows by final image AUROC, whatever the detector; unfinished cells have their status and no number."""
    return [_table(section) for section in sections(cells) if section.rows]


def line(row: Row) -> list[str]:
    """The numbers of a row, by NUMBERS."""
    means = (row.stat(f"{name}").mean for name in ("forgetting_image_auroc", "final_aupro"))
    shown = [MISSING if mean != mean else f"{mean:.3f}" for mean in means]
    return [score_text(row.stat("final_image_auroc")), *shown, amount(row.stat("carried_mb").mean)]


def _table(section: Section) -> Table:
    rows = sorted(section.rows, key=_place)
    marks = [f"{mark} {name.replace('_', ' ')}" for name, mark in MARKS.items() if any(row.may(name) for row in rows)]
    table = Table(
        title=section.title, caption=", ".join(marks), box=box.SIMPLE_HEAD, title_justify="left",
        caption_justify="left", padding=(0, 1), pad_edge=False,
    )  # fmt: skip
    table.add_column("method", overflow="fold")
    table.add_column("detector", overflow="fold")
    for name in NUMBERS:
        table.add_column(name.replace(" ", "\n"), justify="right", no_wrap=True)
    for row in rows:
        told = [Text(row.status.partition(":")[0]), "", "", ""] if row.status else line(row)
        table.add_row(Text(row.short), row.spec["detector"], *told)
    return table


def _place(row: Row) -> tuple:
    mean = row.stat("final_image_auroc").mean
    return bool(row.status), mean != mean, -mean if mean == mean else 0, row.label
