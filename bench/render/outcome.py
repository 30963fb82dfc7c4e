"""What a run came to, as tables for a terminal of 80 columns: one per scenario and set of data."""

from collections.abc import Iterable

from rich import box
from rich.table import Table
from rich.text import Text

from bench.analysis.groups import Section, sections
from bench.analysis.labels import MARKS
from bench.analysis.rows import Row
from bench.render.leaderboard.tables import MISSING, amount, score_text
from bench.schema.cell import Cell

NUMBERS = ("image AUROC", "forgetting", "pixel AUPRO", "carried MB")
WIDTH = 80


def tables(cells: Iterable[Cell]) -> list[Table]:
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
