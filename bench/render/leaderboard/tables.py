"""Markdown tables of rows: headline, every metric, one threshold for the whole line, cost."""

import html
import math
import re
from collections.abc import Callable, Sequence
from itertools import compress
from typing import Literal

from tabulate import tabulate

from bench.analysis import drift_left
from bench.analysis.figures import FIGURES, Figure
from bench.analysis.race import Standing
from bench.analysis.rows import Row
from bench.analysis.summary import Stat
from bench.metrics.statistics import Interval
from bench.schema.metric import METRICS

MISSING = "—"
OLDER = "°"  # behind the name of a row that was measured with older code
MIXED = "≠"  # behind the name of a row whose seeds were measured with different versions
OUTSIDE_BAND = "△"  # behind a share of drift left that says that the strength is wrong there
INTERVAL = "over classes"  # the head of the column
NUMBER = re.compile(r"—|mixed|[-+<]?[\d,.]+( ± [\d.]+| – [\d.]+| %)?")
Column = tuple[str, Callable[[Row], str]]


class Markup(str):
    """Text that a page wrote itself: links, code."""


def escape_markdown(text: str) -> str:
    """What strangers wrote (options, authors, file names, exceptions) as one line of text that renders as itself."""
    return re.sub(r"([\[\]`])", r"\\\1", html.escape(" ".join(text.split()), quote=False))


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """GitHub's table; columns of mostly numbers are aligned to the right."""
    lines = [
        [(cell if isinstance(cell, Markup) else escape_markdown(cell)).replace("|", "\\|") for cell in line]
        for line in lines
    ]
    numbers = [sum(NUMBER.fullmatch(cell) is not None for cell in column) for column in zip(*lines, strict=True)]
    align = ["right" if 2 * count > len(lines) else "left" for count in numbers]
    return tabulate(lines, head, tablefmt="pipe", colalign=align, disable_numparse=True)


def compact(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """The same for the long tables that are folded away: without padding, and without columns that tell nothing."""
    told = [any(cell != MISSING for cell in column) for column in zip(*lines, strict=True)]
    text = markdown(list(compress(head, told)), [list(compress(line, told)) for line in lines])
    return "\n".join(re.sub(r"-{3,}", "---", re.sub(r" +", " ", line)) for line in text.splitlines())


def table(columns: Sequence[Column], rows: Sequence[Row], layout=markdown) -> str:
    """One line per row; a last column tells what is unfinished, where anything is."""
    if any(row.status for row in rows):
        columns = [*columns, ("status", _status)]
    return layout([name for name, _ in columns], [[show(row) for _, show in columns] for row in rows])


def score_text(value: Stat, digits: int = 3) -> str:
    """Mean and half width of the interval: `0.873 ± 0.012`."""
    if math.isnan(value.mean):
        return MISSING
    half = "" if math.isnan(value.half) else f" ± {value.half:.{digits}f}"
    return f"{_no_minus_zero(f'{value.mean:.{digits}f}')}{half}"


def span(value: Interval, form: str = ".2f") -> str:
    """Both ends of an interval: `0.71 – 0.86`."""
    return MISSING if math.isnan(value.low) else f"{value.low:{form}} – {value.high:{form}}"


def amount(value: float) -> str:
    """Three significant digits, thousands grouped, no exponent."""
    if math.isnan(value):
        return MISSING
    if 0 < abs(value) < 0.001:
        return Markup("<0.001")
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f}" if value else "0"


def _no_minus_zero(text: str) -> str:
    return text.lstrip("-") if not text.strip("-0.") else text


def _score(name: str) -> Callable[[Row], str]:
    return lambda row: score_text(row.stat(name))


def _figure(figure: Figure) -> Column:
    """Its mean over seeds; over different machines some mean nothing."""
    if figure.kind == "score":
        return figure.heading, _score(figure.id)

    def show(row: Row) -> str:
        mean = row.stat(figure.id).mean
        if figure.of_machine and len(row.devices) != 1:
            return "mixed"
        if figure.kind == "percent":
            return MISSING if math.isnan(mean) else f"{_no_minus_zero(f'{100 * mean:.1f}')} %"
        return amount(mean) + OUTSIDE_BAND * (figure.id == drift_left.ID and row.outside_band)

    return figure.heading, show


def _seeds(row: Row) -> str:
    seeds = ", ".join(str(cell["spec"]["seed"]) for cell in row.cells)
    return f"seed {seeds}" if row.status else str(len(row.cells))


def _status(row: Row) -> str:
    kind, _, text = row.status.partition(": ")
    if kind == "failed":  # as code: an exception may hold anything that a forge would render
        return Markup(f"**failed** `{text.replace('`', chr(39))}`")
    return Markup(f"**{kind}** {escape_markdown(text)}") if kind else "ok"


_METHOD: Column = ("method", lambda row: row.short + OLDER * row.older + MIXED * bool(row.mixed))
_SYSTEM: tuple[Column, Column] = (("detector", lambda row: row.spec["detector"]), _METHOD)
_SEEDS: Column = ("seeds", _seeds)


def headline(found: Standing) -> tuple[Column, ...]:
    """The columns of a ranked table, tiers among them."""
    return (
        _METHOD,
        ("tier", found.tier),
        ("image AUROC", _score("final_image_auroc")),
        (INTERVAL, lambda row: span(row.interval())),
        ("forgetting", _score("forgetting_image_auroc")),
        *_finals("headline"),
        _figure(FIGURES["carried_mb"]),
        _SEEDS,
    )


def _finals(shown: str) -> tuple[Column, ...]:
    """Final averages of the metrics shown there; image AUROC, which ranks the rows, has its own place."""
    chosen = (metric for metric in METRICS.values() if metric.shown == shown and metric.id != "image_auroc")
    return tuple((metric.heading, _score(f"final_{metric.id}")) for metric in chosen)


def other_metrics() -> tuple[Column, ...]:
    """The columns of the table of every other metric."""
    return (*_SYSTEM, ("plasticity", _score("plasticity_image_auroc")), *_finals("other"), *OTHER_SUMMARIES)


OTHER_SUMMARIES: tuple[Column, ...] = (
    ("BWT, image AUROC", _score("bwt_image_auroc")),
    ("forgetting, AUPRO", _score("forgetting_aupro")),
    ("plasticity, AUPRO", _score("plasticity_aupro")),
    ("joint minus it, image AUROC", _score("joint_minus_replay_image_auroc")),
    ("joint minus it, pixel AP", _score("joint_minus_replay_pixel_ap")),
    _SEEDS,
)


def figures_of(table: Literal["line", "cost"]) -> tuple[Column, ...]:
    """The columns of the table of all figures that belong there."""
    return (*_SYSTEM, *(_figure(figure) for figure in FIGURES.values() if figure.table == table), _SEEDS)
