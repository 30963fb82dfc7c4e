"""Ranked tables: one board per section and set of weights, because what differs is never ranked together."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench.analysis.figures import FIGURES, Figure
from bench.analysis.groups import Section
from bench.analysis.labels import averaged_classes
from bench.analysis.race import standing
from bench.analysis.rows import Row
from bench.published import Published
from bench.render.leaderboard.compare import compare_with_published
from bench.render.leaderboard.lines import inert
from bench.render.leaderboard.page import leader, slug, winner
from bench.render.leaderboard.tables import score_text
from bench.render.report.failures import skipped_pairs
from bench.render.report.field import Field, Line, field
from bench.schema.metric import METRICS, headings, summarised
from bench.schema.record import Record

GROUPS = {"cost": "scores and cost", "line": "one threshold for the line", "all": "everything"}


def common() -> list[Figure]:
    """The figures that every board has, whatever the metric."""
    return [figure for figure in FIGURES.values() if figure.report]


@dataclass(frozen=True)
class Board:
    """Rows that may be ranked together, by final image AUROC."""

    title: str
    scenario: str
    weights: str
    facts: str
    address: str  # of its page in the site
    best: Row | None  # the highest of its leading detector
    tier_1: int  # rows that share the tier of the best; 0 where these runs can show nothing
    figures: tuple[str, ...]  # of the best, as `leaderboard.page.winner` tells them
    lines: list[Line]
    field: Field

    @property
    def size(self) -> int:
        """How many rows."""
        return len(self.lines)

    @property
    def detectors(self) -> list[str]:
        """Of its rows, sorted."""
        return sorted({line.row.spec["detector"] for line in self.lines})

    def csv(self) -> str:
        """Its table, every column, with full precision; empty: not measured."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        columns = [f"{part}_{metric}" for metric in summarised() for part in ("final", "forgetting", "plasticity")]
        writer.writerow(
            ["method", "detector", "status", "seeds", "tier", *columns, *(figure.id for figure in common())]
        )
        for line in self.lines:
            row = line.row
            numbers = [line.mean(name) for name in columns]
            told = [row.label, row.spec["detector"], row.status or "ok", len(row.cells), line.tier]
            writer.writerow([*map(inert, told), *("" if value != value else value for value in numbers)])
        return text.getvalue()


def boards(sections: Sequence[Section], pages: Mapping[str, str]) -> list[Board]:
    """One per section and set of weights; `pages`: where each cell's system has its page."""
    found = []
    for section in sections:
        for weights, rows in section.by_weights().items():
            blocks = [block for block in section.blocks.values() if any(row in rows for row in block)]
            tiers = {id(row): standing(block).tier(row) for block in blocks for row in block}
            lines = [Line(row, pages[row.cells[0]["key"]], tiers[id(row)]) for row in sorted(rows, key=_place)]
            here = re.sub(r"\W+", "-", " ".join([slug(section), *weights[:2], weights[2][:8]])).strip("-")
            about = (section.title, section.spec["scenario"], named(weights), facts(section), f"boards/{here}.html")
            leading = max(blocks, key=leader)
            ranked = standing(leading)
            racing = ranked.best or sorted(ranked.untested, key=_place)
            best = racing[0] if racing else None
            found.append(Board(*about, best, len(ranked.best), winner(leading)[1:], lines, field(lines)))
    return found


def page_of(board: Board) -> dict:
    """Values of a board's template."""
    chance = {name: METRICS[name].chance for name in summarised()}
    return {"board": board, "metrics": headings(), "common": common(), "groups": GROUPS, "chance": chance}


def named(weights: tuple) -> str:
    """Kind, backbone and the start of the hash."""
    return " ".join(part for part in (weights[0], weights[1], weights[2][:8]) if part)


def facts(section: Section) -> str:
    """What all rows of a section have in common."""
    spec = section.spec
    text = (
        f"{len(spec['classes'])} classes in {len(spec['steps'])} steps, order {spec['order']}, "
        f"{spec['image_size']} px, size {spec['size']}, data {spec['fingerprint'][:12]}, "
        f"metrics version {spec['metric_version']}"
    )
    return ", ".join(filter(None, (text, averaged_classes(section.cells))))


def _place(row: Row) -> tuple:
    mean = row.stat("final_image_auroc").mean
    return bool(row.status), mean != mean, -mean if mean == mean else 0, row.label, row.spec["detector"]


def overview(cells: Iterable[Record], broken: Sequence[str]) -> dict[str, int]:
    """How many there are of what."""
    cells = list(cells)
    states = Counter(cell["status"] for cell in cells)
    return {
        "finished cells": states["ok"],
        "methods": len({cell["spec"]["method"] for cell in cells}),
        "detectors": len({cell["spec"]["detector"] for cell in cells}),
        "scenarios": len({cell["spec"]["scenario"] for cell in cells}),
        "failed or partial": states["failed"] + states["partial"] + len(broken),
        "skipped pairs": len(skipped_pairs(cells)),
    }


def published_boards(sections: Sequence[Section], rows: Sequence[Published], pages: Mapping[str, str]) -> list[dict]:
    """Every section that papers have numbers for, its verdicts beside them."""
    found = []
    for section in sections:
        lines = [
            {
                "row": pair.row,
                "href": pages[pair.row.cells[0]["key"]],
                "printed": pair.published,
                "metric": headings()[pair.published.metric],
                "measured": pair.measured,
                "verdict": pair.verdict,
                "kind": pair.verdict.split()[0],
                "lost": score_text(pair.lost),
            }
            for pair in compare_with_published(section, rows)
        ]
        found += [{"title": section.title, "lines": lines}] if lines else []
    return found
