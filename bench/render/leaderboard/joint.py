"""Where a method is shown to end above joint training, which is a reference and no upper bound."""

from collections.abc import Iterator, Sequence

from bench.analysis.gap_to_joint import JOINT
from bench.analysis.groups import Section
from bench.analysis.race import beside, out_of_race
from bench.analysis.rows import Row
from bench.metrics.statistics import CrossedMean
from bench.render.leaderboard.details import fold
from bench.render.leaderboard.tables import markdown


def above_joint(sections: Sequence[Section]) -> str:
    """A line per racing method that is shown above the best joint row of its own table; "" where none is."""
    lines = [
        (section.title, f"{row.short} + {row.spec['detector']}", f"{mean.mean:+.3f} ± {mean.half():.3f}")
        for section in sections
        for rows in section.blocks.values()
        for row, mean in _shown(rows)
    ]
    table = markdown(("scenario", "method", f"minus {JOINT}"), lines)
    return fold(f"Methods shown above {JOINT} in their own table: {len(lines)}", table) if lines else ""


def _shown(rows: Sequence[Row]) -> Iterator[tuple[Row, CrossedMean]]:
    """Corrected for the number of methods compared with joint in the table (Bonferroni)."""
    joint = max(
        (r for r in rows if r.spec["method"] == JOINT and not (r.status or r.external)), key=_auroc, default=None
    )
    racing = [row for row in rows if not out_of_race(row)]
    for row in racing if joint is not None else ():
        mean = beside(row, joint)
        if mean.mean > 0 and mean.shown(len(racing)):
            yield row, mean


def _auroc(row: Row) -> float:
    return row.stat("final_image_auroc").mean
