"""Which cells may share a table: sections, detector blocks, rows (one configuration, its seeds)."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from bench.analysis import drift_left
from bench.analysis import gap_to_joint as distance
from bench.analysis.identity import block_key, configuration, runs_for_debugging
from bench.analysis.labels import labels, last_line
from bench.analysis.rows import Row
from bench.analysis.summary import steps_done
from bench.schema.cell import Spec
from bench.schema.record import Record

# Cells that differ in one of these are measured on something else; the words say so in headings.
SECTION = {
    "scenario": "",
    "scenario_version": "version ",
    "metric_version": "metrics ",
    "size": "size ",
    "image_size": "px ",
    "order": "order ",
    "fingerprint": "data ",
}


@dataclass
class Section:
    """All cells of one scenario, order, size, data and metric version."""

    title: str
    spec: Spec  # of any of its cells
    blocks: dict[tuple, list[Row]] = field(default_factory=dict)  # block_key -> rows, best first
    skipped: list[Record] = field(default_factory=list)

    @property
    def rows(self) -> list[Row]:
        """Of all blocks."""
        return [row for rows in self.blocks.values() for row in rows]

    @property
    def cells(self) -> list[Record]:
        """Of all rows."""
        return [cell for row in self.rows for cell in row.cells]

    def by_weights(self) -> dict[tuple, list[Row]]:
        """Rows whose detectors start from the same weights: the widest table that is allowed."""
        found = defaultdict(list)
        for (_, *weights), rows in self.blocks.items():
            found[tuple(weights)] += rows
        return dict(sorted(found.items()))


def _section_key(spec: Spec) -> tuple:
    return tuple(spec[name] for name in SECTION)


def sections(cells: Iterable[Record]) -> list[Section]:
    """Sections by scenario, blocks by detector, rows by final image AUROC; independent of the cells' order."""
    cells = sorted(cells, key=lambda cell: (configuration(cell["spec"]), cell["spec"]["seed"], cell["key"]))
    groups = defaultdict(list)
    for cell in cells:
        if cell["status"] != "skipped":
            groups[_section_key(cell["spec"])].append(cell)
    for cell in cells:  # a skipped pair stands with its scenario, whatever else it would have been run with
        if cell["status"] == "skipped":
            same = [key for key in sorted(groups) if key[0] == cell["spec"]["scenario"]]
            groups[same[0] if same else _section_key(cell["spec"])].append(cell)
    return [_section(key, groups[key], list(groups)) for key in sorted(groups)]


def _section(key: tuple, cells: list[Record], keys: list[tuple]) -> Section:
    rivals = [other for other in keys if other[0] == key[0]]
    differs = [
        f"{word}{str(value)[:12]}"
        for i, (word, value) in enumerate(zip(SECTION.values(), key, strict=True))
        if i > 1 and len({other[i] for other in rivals}) > 1
    ]
    section = Section(" · ".join([f"{key[0]}@{key[1]}", *differs]), cells[0]["spec"])
    section.skipped = [cell for cell in cells if cell["status"] == "skipped"]
    blocks = defaultdict(list)
    for cell in cells:
        if cell["status"] != "skipped":
            blocks[block_key(cell["spec"])].append(cell)
    section.blocks = {block: _rows(blocks[block]) for block in sorted(blocks)}
    return section


def _rows(cells: list[Record]) -> list[Row]:
    groups = defaultdict(list)
    for cell in cells:
        groups[configuration(cell["spec"]), _status(cell)].append(cell)
    names = labels([group[0] for group in groups.values()])
    beside = distance.joint_cells(cells), drift_left.finetuned_cells(cells)
    unfinished = Counter(key for (key, status), group in groups.items() if status for _ in group)
    rows = [
        Row(label, tuple(group), status, 0 if status else unfinished[key], *beside)
        for label, ((key, status), group) in zip(names, groups.items(), strict=True)
    ]

    def place(row: Row) -> tuple:
        mean = row.stat("final_image_auroc").mean
        return bool(row.status), mean != mean, -mean if mean == mean else 0, row.label, row.status

    return sorted(rows, key=place)


def _status(cell: Record) -> str:
    if runs_for_debugging(cell["spec"]):
        return "no wall: run for debugging"
    if cell["status"] == "failed":
        return f"failed: {last_line(cell['reason'])}"
    if cell["status"] == "partial":
        return f"partial: {steps_done(cell)} of {len(cell['spec']['steps'])} steps"
    return ""
