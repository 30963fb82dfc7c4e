"""Which cells may share a table: sections, detector blocks, rows (one configuration, its seeds)."""

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from bench.cell import Cell, Spec
from bench.leaderboard.summary import Stat, figures, interval_of, stat, steps_done
from bench.measures.statistics import Interval

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
MARKS = {"reads_ahead": "†", "task_oracle": "‡", "labels": "§"}
EXTERNAL = "¶"


@dataclass(frozen=True)
class Row:
    """One configuration: its complete cells (one per seed) as numbers, or its unfinished ones as a status."""

    label: str  # method, options, marks
    cells: tuple[Cell, ...]  # by seed
    status: str = ""  # "" for complete cells, which alone have numbers

    @property
    def spec(self) -> Spec:
        """Of the first seed; the others differ in the seed only."""
        return self.cells[0]["spec"]

    @cached_property
    def figures(self) -> list[dict[str, float]]:
        """Of each cell; empty where there are no complete cells."""
        return [] if self.status else [figures(cell) for cell in self.cells]

    def stat(self, name: str) -> Stat:
        """Of one figure of bench.leaderboard.summary.figures over the seeds; missing for unfinished cells."""
        return stat(found[name] for found in self.figures)

    def interval(self, metric: str = "image_auroc") -> Interval:
        """The final average with its bootstrap interval over seeds and classes; missing for unfinished cells."""
        return interval_of([] if self.status else self.cells, metric)

    def on(self, device: str) -> "Row":
        """The same row, from the cells that ran on one device only."""
        cells = tuple(cell for cell in self.cells if cell["environment"].get("device", "") == device)
        return self if len(cells) == len(self.cells) else Row(self.label, cells, self.status)

    @property
    def devices(self) -> list[str]:
        """Where the cells ran, sorted."""
        return sorted({cell["environment"].get("device", "") for cell in self.cells})

    @property
    def external(self) -> bool:
        """Whether somebody else's system gave the scores."""
        return "external" in self.spec

    def may(self, capability: str) -> bool:
        """Whether the method declares it."""
        return capability in self.cells[0]["capabilities"]


@dataclass
class Section:
    """All cells of one scenario, order, size, data and metric version."""

    title: str
    spec: Spec  # of any of its cells
    blocks: dict[tuple, list[Row]] = field(default_factory=dict)  # block_key -> rows, best first
    skipped: list[Cell] = field(default_factory=list)

    @property
    def rows(self) -> list[Row]:
        """Of all blocks."""
        return [row for rows in self.blocks.values() for row in rows]

    def by_weights(self) -> dict[tuple, list[Row]]:
        """Rows whose detectors start from the same weights: the widest table that is allowed."""
        found = defaultdict(list)
        for (_, *weights), rows in self.blocks.items():
            found[tuple(weights)] += rows
        return dict(sorted(found.items()))


def weights_key(spec: Spec) -> tuple[str, str, str]:
    """(kind, backbone, identity) of the weights. Random ones are drawn from the seed, so seeds may differ in them."""
    weights = spec["weights"]
    identity = "" if weights["kind"] in ("random", "none") else weights["sha256"] or weights["source"]
    return weights["kind"], spec["backbone"] or "", identity


def block_key(spec: Spec) -> tuple[str, ...]:
    """(detector, *weights_key)."""
    return spec["detector"], *weights_key(spec)


def _section_key(spec: Spec) -> tuple:
    return tuple(spec[name] for name in SECTION)


def configuration(spec: Spec) -> str:
    """Canonical text of all that decides the numbers but the seed."""
    rest = {**spec, "seed": 0, "weights": weights_key(spec)}
    return json.dumps(rest, sort_keys=True)


def sections(cells: Iterable[Cell]) -> list[Section]:
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


def _section(key: tuple, cells: list[Cell], keys: list[tuple]) -> Section:
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


def _rows(cells: list[Cell]) -> list[Row]:
    groups = defaultdict(list)
    for cell in cells:
        groups[configuration(cell["spec"]), _status(cell)].append(cell)
    labels = _labels([group[0] for group in groups.values()])
    rows = [
        Row(label, tuple(group), status) for label, ((_, status), group) in zip(labels, groups.items(), strict=True)
    ]
    return sorted(rows, key=_rank)


def _rank(row: Row) -> tuple:
    mean = row.stat("final_image_auroc").mean
    return bool(row.status), mean != mean, -mean if mean == mean else 0, row.label, row.status


def _status(cell: Cell) -> str:
    if cell["status"] == "failed":
        return f"failed: {last_line(cell['reason'])}"
    if cell["status"] == "partial":
        return f"partial: {steps_done(cell)} of {len(cell['spec']['steps'])} steps"
    return ""


def last_line(text: str) -> str:
    """Of a traceback: the exception, shortened to fit a table."""
    line = text.strip().splitlines()[-1].strip() if text.strip() else "no reason given"
    return line if len(line) <= 120 else f"{line[:117]}..."


def _labels(cells: list[Cell]) -> list[str]:
    """Method, options and marks; where two configurations would read alike, also what differs between them."""
    labels, shared = [], shared_options(cells)
    names = [_name(cell, shared) for cell in cells]
    for cell, name in zip(cells, names, strict=True):
        alike = [_flat(other["spec"]) for other, same in zip(cells, names, strict=True) if same == name]
        own = _flat(cell["spec"])
        differs = [key for key in own if any(other.get(key, "default") != own[key] for other in alike)]
        told = f" ({', '.join(f'{key}={own[key]}' for key in differs)})" if differs else ""
        labels.append(name + told)
    return labels


def shared_options(cells: Iterable[Cell]) -> list[str]:
    """Options that all cells of a block were run with: told once, in its heading."""
    options = [cell["spec"]["variant"].split(",") for cell in cells]
    return [part for part in dict.fromkeys(options[0]) if part and all(part in other for other in options)]


def _name(cell: Cell, shared: list[str]) -> str:
    spec = cell["spec"]
    own = [part for part in dict.fromkeys(spec["variant"].split(",")) if part and part not in shared]
    options = f" ({', '.join(own)})" if own else ""
    marks = [mark for name, mark in MARKS.items() if name in cell["capabilities"]]
    marks += [EXTERNAL] if "external" in spec else []
    return spec["method"] + options + "".join(marks)


def _flat(spec: Spec) -> dict[str, str]:
    """What may differ within a block, one value per name."""
    flat = {f"{spec['method']}.{name}": str(value) for name, value in spec["method_config"].items()}
    flat |= {f"{spec['detector']}.{name}": str(value) for name, value in spec["detector_config"].items()}
    return flat | {"backbone_arguments": str(spec["backbone_arguments"])} | spec.get("external", {})
