"""Where a method is shown to end above joint training, which is a reference and no upper bound."""

from collections.abc import Sequence

from bench.analysis.gap_to_joint import JOINT
from bench.analysis.groups import Section
from bench.analysis.race import beside, out_of_race
from bench.analysis.rows import Row
from bench.render.leaderboard.details import fold
from bench.render.leaderboard.tables import markdown


def above_joint(sections: Sequence[Section]) -> str:
    """A line per racing method that is shown above the best joint row of its own table; "" where none is.

    Corrected for the number of methods compared with joint in the table (Bonferroni).
    """
    lines = []
    for title, rows in ((section.title, rows) for section in sections for rows in section.blocks.values()):
        finished = (row for row in rows if row.spec["method"] == JOINT and not (row.status or row.external))
        joint = max(finished, key=_auroc, default=None)
        racing = [row for row in rows if not out_of_race(row)]
        for row in racing if joint is not None else ():
            mean = beside(row, joint)
            if mean.mean > 0 and mean.shown(len(racing)):
                system = f"{row.short} + {row.spec['detector']}"
                lines.append((title, system, f"{mean.mean:+.3f} ± {mean.half():.3f}"))
    table = markdown(("scenario", "method", f"minus {JOINT}"), lines)
    return fold(f"Methods shown above {JOINT} in their own table: {len(lines)}", table) if lines else ""


def _auroc(row: Row) -> float:
    return row.stat("final_image_auroc").mean
