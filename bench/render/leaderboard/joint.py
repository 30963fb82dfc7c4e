"""Where a method ends above joint training, which is a reference and no upper bound."""

import math
from collections.abc import Iterator, Sequence

from bench.analysis.gap_to_joint import JOINT
from bench.analysis.groups import Section
from bench.analysis.rows import Row
from bench.render.leaderboard.details import fold
from bench.render.leaderboard.tables import markdown, score

WARNING = f"""**Above `{JOINT}`.** Joint training is a reference, not an upper bound: it learns all classes at once with
the same settings, and a method with parts per class, or with more training, may end above it."""


def above_joint(sections: Sequence[Section]) -> str:
    """The warning and a line per method that ends above the joint row of its own table; "" where none does."""
    lines = [
        (section.title, f"{row.label} + {row.spec['detector']}", *map(_final, (row, joint)))
        for section in sections
        for rows in section.blocks.values()
        for row, joint in _pairs(rows)
    ]
    table = markdown(("scenario", "method", "image AUROC", JOINT), lines)
    return f"{WARNING}\n\n{fold(f'Methods above {JOINT} in their own table: {len(lines)}', table)}" if lines else ""


def _pairs(rows: Sequence[Row]) -> Iterator[tuple[Row, Row]]:
    """Rows above the best joint row of one table, with that row; unfinished and external ones are left out."""
    whole = [row for row in rows if not (row.status or row.external or math.isnan(_mean(row)))]
    bound = max((row for row in whole if row.spec["method"] == JOINT), key=_mean, default=None)
    if bound is not None:
        yield from ((row, bound) for row in whole if row.spec["method"] != JOINT and _mean(row) > _mean(bound))


def _mean(row: Row) -> float:
    return row.stat("final_image_auroc").mean


def _final(row: Row) -> str:
    return score(row.stat("final_image_auroc"))
