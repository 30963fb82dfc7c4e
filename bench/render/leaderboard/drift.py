"""What a share of drift left outside the band that a strength is meant for says, row by row."""

from bench.analysis.drift_left import FROZEN, ID, INERT, finetuned_beside
from bench.analysis.figures import figures
from bench.analysis.groups import Section
from bench.analysis.rows import Row
from bench.analysis.summary import stat
from bench.render.leaderboard.tables import OUTSIDE_BAND, escape_markdown


def rows_outside_band(section: Section) -> str:
    """A line per row whose strength is inert or freezes everything on its detector; "" where there is none."""
    lines = [_line(row) for row in section.rows if row.outside_band]
    head = f"{OUTSIDE_BAND} **drift left outside {FROZEN} to {INERT}**, where a strength is meant to work:"
    return "\n".join([head, "", *lines]) if lines else ""


def _line(row: Row) -> str:
    share, strength = row.stat(ID).mean, row.spec["method_config"]["strength"]
    if share < FROZEN:
        told, figure = "hardly anything moves; classes just learned reach", "plasticity_image_auroc"
    else:
        told, figure = "hardly anything is held; old classes lose", "forgetting_image_auroc"
    finetuned = stat(figures(finetuned_beside(cell, row.finetuned))[figure] for cell in row.cells)
    system = f"{escape_markdown(row.short)} on {row.spec['detector']}"
    measured = f"{row.stat(figure).mean:.3f} image AUROC, under fine-tuning {finetuned.mean:.3f}"
    return f"- {system}: {share:.2f} at strength {strength:g}, {told} {measured}"
