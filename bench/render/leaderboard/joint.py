"""What joint training says of a table: where methods are shown above it, and where it hardly learns itself."""

from collections.abc import Sequence

from bench.analysis.gap_to_joint import JOINT
from bench.analysis.groups import Section
from bench.analysis.race import beside, out_of_race
from bench.analysis.rows import Row
from bench.render.leaderboard.details import fold
from bench.render.leaderboard.tables import markdown

WEAK = 0.65  # image AUROC of joint training below which a detector hardly learns; .5 is chance


def above_joint(sections: Sequence[Section]) -> str:
    """A line per racing method that is shown above the best joint row of its own table; "" where none is.

    Corrected for the number of methods compared with joint in the table (Bonferroni).
    """
    lines = []
    for title, rows in ((section.title, rows) for section in sections for rows in section.blocks.values()):
        joint = _best_joint(rows)
        racing = [row for row in rows if not out_of_race(row)]
        for row in racing if joint is not None else ():
            mean = beside(row, joint)
            if mean.mean > 0 and mean.shown(len(racing)):
                system = f"{row.short} + {row.spec['detector']}"
                lines.append((title, system, f"{mean.mean:+.3f} ± {mean.half():.3f}"))
    table = markdown(("scenario", "method", f"minus {JOINT}"), lines)
    return fold(f"Methods shown above {JOINT} in their own table: {len(lines)}", table) if lines else ""


def weak_jointly(rows: Sequence[Row]) -> str:
    """A sentence where a detector hardly learns even what it sees all at once; "" where it does, or was not trained so.

    It tells from the cells whether the maps know more than the scores, and with what the detector was trained.
    """
    joint = _best_joint(rows)
    if joint is None or not _auroc(joint) < WEAK:
        return ""
    spec, pixel = joint.spec, joint.stat("final_pixel_auroc").mean
    maps = f", its maps {pixel:.3f} pixel AUROC" if pixel == pixel else ""
    weights = f" and {spec['weights']['kind']} weights" if spec["weights"]["kind"] != "none" else ""
    epochs = f" after {spec['detector_config']['epochs']} epochs" if "epochs" in spec["detector_config"] else ""
    return (
        f"**Trained on all classes at once this detector reaches {_auroc(joint):.3f} image AUROC only{maps}**: at "
        f"{spec['image_size']} px, size {spec['size']}{weights}{epochs} it hardly learns the classes themselves, so "
        "these rows say little of what methods keep."
    )


def _best_joint(rows: Sequence[Row]) -> Row | None:
    finished = (row for row in rows if row.spec["method"] == JOINT and not (row.status or row.external))
    return max(finished, key=_auroc, default=None)


def _auroc(row: Row) -> float:
    return row.stat("final_image_auroc").mean
