"""What README.md shows of the results: one table and one picture, both asked for by markers in its text.

`<!-- table SCENARIO DETECTOR METHOD,... -->` is followed by the headline table of these methods, and
`<!-- matrices SCENARIO SYSTEM,... FILE.svg -->` has the matrices R of these systems drawn side by side into a file.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.analysis.groups import Section
from bench.analysis.race import standing
from bench.analysis.rows import Row
from bench.analysis.summary import learned_at
from bench.render.leaderboard.heat import Panel, drawing
from bench.render.leaderboard.tables import headline, table

TABLE = re.compile(r"(<!-- table (\S+) (\S+) (\S+) -->\n)(.*?)(\n<!-- /table -->)", re.DOTALL)
MATRICES = re.compile(r"<!-- matrices (\S+) (\S+) (\S+) -->")


def rendered_readme(path: Path, grouped: Sequence[Section]) -> dict[Path, str]:
    """Path -> text: the README with its table, where it asks for one, and the picture, where it does."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    found = {}
    if asked := TABLE.search(text):
        shown = _table(grouped, asked[2], asked[3], asked[4].split(","))
        found[path] = TABLE.sub(lambda match: f"{match[1]}{shown}{match[6]}", text, count=1)
    if asked := MATRICES.search(text):
        rows = [_row(grouped, asked[1], *system.split("+")) for system in asked[2].split(",")]
        panels = [_panel(row) for row in rows if row]
        if panels:
            found[path.parent / asked[3]] = drawing(panels)
    return found


def _table(grouped: Sequence[Section], scenario: str, detector: str, methods: Sequence[str]) -> str:
    rows = next((rows for rows in _blocks(grouped, scenario, detector) if rows), [])
    chosen = [row for row in rows if row.spec["method"] in methods]
    return table(headline(standing(rows)), chosen) if chosen else "No results yet."


def _blocks(grouped: Sequence[Section], scenario: str, detector: str) -> list[list[Row]]:
    blocks = [block for section in grouped if section.spec["scenario"] == scenario for block in section.blocks.items()]
    return [rows for (name, *_), rows in blocks if name == detector]


def _row(grouped: Sequence[Section], scenario: str, method: str, detector: str) -> Row | None:
    rows = (row for rows in _blocks(grouped, scenario, detector) for row in rows)
    return next((row for row in rows if row.spec["method"] == method and not row.status), None)


def _panel(row: Row) -> Panel:
    """The image AUROC of a row, mean over its seeds."""
    R = np.mean([cell["matrices"]["image_auroc"] for cell in row.cells], axis=0)
    title = f"{row.spec['method']} on {row.spec['detector']}: ends at {R[-1].mean():.2f}"
    return Panel(title, row.spec["classes"], R.tolist(), learned_at(row.cells[0]).tolist())
