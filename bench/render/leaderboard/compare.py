"""Published numbers beside measured ones, each with a verdict: within tolerance, off by x, or not comparable."""

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from bench.analysis.groups import Section
from bench.analysis.rows import Row
from bench.analysis.summary import Stat, stat
from bench.published import PRINTED_AS, TOLERANCE, Published
from bench.published.data_sets import TEST_IMAGES, other_data
from bench.published.protocols import set_as_in_a_paper
from bench.schema.metric import summarised
from bench.schema.record import Record

IN_ROWS = ("forgetting", "joint_minus_replay")  # definitions that rows have a figure of
FEWEST_SEEDS = 3  # below that nobody knows what another seed would have given


class Comparison(NamedTuple):
    """One published average beside one measured row."""

    row: Row
    published: Published
    measured: Stat
    verdict: str

    @property
    def lost(self) -> Stat:
        """The row's forgetting as the paper defines its own; missing where the row has none by that definition."""
        printed = self.published
        return self.row.stat(f"{printed.fm_def}_{printed.metric}") if printed.fm_def in IN_ROWS else stat(())


def compare_with_published(section: Section, published: Iterable[Published]) -> list[Comparison]:
    """Pairs of one section: same stream (or one where order plays no part), same system, same metric; rows' order."""
    name = section.spec["scenario"]
    streams = (name, f"{name.partition('/')[0]}/*")
    here = [row for row in published if not row.of_class and row.metric in summarised() and row.scenario in streams]
    return [pair for row in section.rows if not row.status for pair in _pairs(row, here)]


def _pairs(row: Row, published: list[Published]) -> Iterator[Comparison]:
    names = PRINTED_AS.get((row.spec["method"], row.spec["detector"]), ())
    for printed in published:
        if printed.method in names:
            measured = row.stat(f"final_{printed.metric}")
            yield Comparison(row, printed, measured, published_verdict(row.cells[0], printed, measured))


def published_verdict(cell: Record, printed: Published, measured: Stat) -> str:
    """`within 0.02`, `off by +0.031` (measured minus printed; told where seeds may explain it) or `not comparable`.

    `cell` is one of the runs, `measured` is of all of them."""
    spec, any_order = cell["spec"], printed.scenario.endswith("/*")
    reasons = list(other_data(cell, TEST_IMAGES.get(printed.dataset, {}), whole=any_order))
    if spec["weights"]["kind"] not in ("imagenet", "none"):  # none: a detector without a pretrained part
        reasons.append(f"{spec['weights']['kind']} weights instead of ImageNet's")
    if spec["size"] != "paper":
        reasons.append(f"size {spec['size']}")
    if spec["order"] != "published" and not any_order:
        reasons.append(f"class order {spec['order']}")
    if spec["variant"] and not set_as_in_a_paper(spec):
        reasons.append(f"options {spec['variant']}")
    if math.isnan(measured.mean):
        reasons.append("not measured")
    if not reasons and measured.n < FEWEST_SEEDS:
        reasons.append(f"{measured.n} of at least {FEWEST_SEEDS} seeds")
    if reasons:
        return f"not comparable: {', '.join(reasons)}"
    gap = measured.mean - printed.value
    text = f"within {TOLERANCE}" if abs(gap) <= TOLERANCE else f"off by {gap:+.3f}"
    if TOLERANCE < abs(gap) <= measured.half:  # never of a single seed, whose half width is NaN
        text += f", inside the ± {measured.half:.3f} of {measured.n} seeds"
    same_size = printed.resolution.partition(",")[0] in ("", str(spec["image_size"]))
    return text if same_size else f"{text}, at {printed.resolution} px there"
