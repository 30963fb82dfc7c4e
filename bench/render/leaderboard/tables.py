"""Markdown tables of rows: headline, every metric, one threshold for the whole line, cost."""

import html
import math
import re
from collections.abc import Callable, Sequence

from tabulate import tabulate

from bench.analysis.race import Standing
from bench.analysis.rows import Row
from bench.analysis.summary import Stat
from bench.metrics.statistics import Interval
from bench.schema.metric import METRICS

MISSING = "—"
OLDER = "°"  # behind the name of a row that was measured with older code
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
    """The same without padding, for the long tables that are folded away: half the bytes."""
    text = markdown(head, lines)
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


def span(value: Interval) -> str:
    """Both ends of an interval: `0.71 – 0.86`."""
    return MISSING if math.isnan(value.low) else f"{value.low:.2f} – {value.high:.2f}"


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


def _amount(name: str) -> Callable[[Row], str]:
    return lambda row: amount(row.stat(name).mean)


def _timed(name: str) -> Callable[[Row], str]:
    """A mean over different machines means nothing."""
    return lambda row: amount(row.stat(name).mean) if len(row.devices) == 1 else "mixed"


def _percent(name: str, sign: str = "-") -> Callable[[Row], str]:
    def show(row: Row) -> str:
        mean = row.stat(name).mean
        return MISSING if math.isnan(mean) else f"{_no_minus_zero(f'{100 * mean:{sign}.1f}')} %"

    return show


def _peak_memory(row: Row) -> str:
    gpu = row.stat("gpu_allocated_mb").mean
    return _timed("peak_rss_mb" if math.isnan(gpu) else "gpu_allocated_mb")(row)


def _seeds(row: Row) -> str:
    seeds = ", ".join(str(cell["spec"]["seed"]) for cell in row.cells)
    return f"seed {seeds}" if row.status else str(len(row.cells))


def _status(row: Row) -> str:
    kind, _, text = row.status.partition(": ")
    if kind == "failed":  # as code: an exception may hold anything that a forge would render
        return Markup(f"**failed** `{text.replace('`', chr(39))}`")
    return Markup(f"**{kind}** {escape_markdown(text)}") if kind else "ok"


_METHOD: Column = ("method", lambda row: row.short + OLDER * row.older)
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
        ("carried MB", _amount("carried_mb")),
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

ONE_LINE: tuple[Column, ...] = (
    *_SYSTEM,
    ("pooled image AUROC", _score("pooled_image_auroc")),
    ("pooled pixel AUROC", _score("pooled_pixel_auroc")),
    ("F1 at threshold", _score("threshold_f1")),
    ("precision", _score("threshold_precision")),
    ("recall", _score("threshold_recall")),
    ("false alarms", _percent("false_alarm")),
    ("threshold drift, sd", _amount("threshold_drift")),
    ("drift left", _amount("drift_left")),
    ("routing accuracy", _percent("routing_accuracy")),
    _SEEDS,
)

COST: tuple[Column, ...] = (
    *_SYSTEM,
    ("train s", _amount("training_s")),
    ("images seen", _amount("images_seen")),
    ("peak MB", _peak_memory),
    ("evaluation share", _percent("evaluation_share")),
    ("training images/s", _amount("train_images_per_s")),
    ("ms/image, batch 1", _amount("ms_per_image_1")),
    ("images/s, batch 32", _amount("images_per_s")),
    ("GPU allocated MB", _amount("gpu_allocated_mb")),
    ("GPU reserved MB", _amount("gpu_reserved_mb")),
    ("GPU use", _percent("gpu_utilisation")),
    ("energy J", _amount("energy_j")),
    ("CPU energy J", _amount("cpu_energy_j")),
    ("RSS MB", _amount("peak_rss_mb")),
    ("carried MB", _amount("carried_mb")),
    ("parameters", _amount("parameters")),
    _SEEDS,
)
