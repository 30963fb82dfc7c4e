"""Critical differences: mean ranks of methods over blocks, and which of them cannot be told apart (Demšar, JMLR 2006).

A block is a scenario with one detector and one start (weights): there the methods differ in nothing else. Its values
are means over classes and seeds. Where whole systems are asked for (`method+detector`), a block is a scenario.
"""

import json
import string
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from bench.analysis.groups import Section, sections
from bench.analysis.labels import MARKS, shared_options
from bench.analysis.race import out_of_race
from bench.analysis.rows import Row
from bench.errors import BadInput
from bench.metrics.statistics import FEWEST_BLOCKS, Ranking, rank_scores
from bench.registry.declarations import did_you_mean
from bench.schema.metric import summarised
from bench.schema.record import Record


@dataclass(frozen=True)
class Contest:
    """A complete table of blocks × treatments and its ranking, treatments by mean rank."""

    names: list[str]
    blocks: list[str]
    datasets: int  # that the blocks come from
    scores: np.ndarray  # (blocks, treatments)
    ranking: Ranking
    absent: list[str]  # treatments left out, because a block lacks them


def contest(
    cells: Iterable[Record], metric: str = "image_auroc", names: Sequence[str] = (), scenario: str = ""
) -> Contest:
    """The largest complete table, or that of `names`; raises BadInput below 3 treatments or 2 blocks."""
    if metric not in summarised():
        raise BadInput(f"no metric {metric!r}: choose one of {', '.join(summarised())}")
    table, origin = _table(cells, f"final_{metric}", any("+" in name for name in names), names, scenario)
    known = sorted({name for row in table.values() for name in row})
    if missing := [name for name in names if name not in known]:
        there, near = ", ".join(known) or "none", did_you_mean(missing[0], known)
        raise BadInput(f"no finished result of {', '.join(missing)}: there are {there}.{near}")
    chosen = list(dict.fromkeys(names))
    if not chosen:  # of the most widely run treatments, as many as make the complete table largest
        coverage = {name: sum(name in row for row in table.values()) for name in known}
        ordered = sorted(known, key=lambda name: (-coverage[name], name))
        sets = [set(block for block, row in table.items() if name in row) for name in ordered]
        common = [len(found) for found in accumulate(sets, set.intersection)]
        sizes = [(count * number if number > 2 and count > 1 else 0) for number, count in enumerate(common, start=1)]
        chosen = ordered[: int(np.argmax(sizes)) + 1] if any(sizes) else []
    blocks = [block for block, row in table.items() if all(name in row for name in chosen)]
    if len(chosen) < 3 or len(blocks) < 2:
        raise BadInput(
            f"{len(chosen)} methods in {len(blocks)} blocks that have them all: "
            "a ranking needs 3 methods and 2 blocks; run more, or name fewer"
        )
    scores = np.array([[table[block][name] for name in chosen] for block in blocks])
    best = np.argsort(rank_scores(scores).ranks, kind="stable")
    names = [chosen[i] for i in best]
    absent = [name for name in known if name not in names]
    return Contest(
        names, blocks, len({origin[block] for block in blocks}), scores[:, best], rank_scores(scores[:, best]), absent
    )


def _table(cells, figure: str, whole: bool, names: Sequence[str], scenario: str):
    """{block: {treatment: value}} and {block: data set}."""
    table, origin = {}, {}
    for section in sections(cells):
        if scenario not in ("", section.spec["scenario"]):
            continue
        for block, rows in ({section.title: section.rows} if whole else _by_detector(section)).items():
            rows = [row for row in rows if row.stat(figure).mean == row.stat(figure).mean]
            found = {
                name: row.stat(figure).mean
                for name, row in _named(rows, whole)
                if name in names or not out_of_race(row)
            }
            if found:
                table[block], origin[block] = found, section.spec["scenario"].partition("/")[0]
    return table, origin


def _by_detector(section: Section) -> dict[str, list[Row]]:
    """Rows that share detector, its configuration and its start, by a name that tells these."""
    groups = defaultdict(list)
    for (detector, *weights), rows in section.blocks.items():
        for row in rows:
            groups[detector, *weights, json.dumps(row.spec["detector_config"], sort_keys=True)].append(row)
    named = {}
    for (detector, kind, backbone, *_), rows in groups.items():
        options = ", ".join(shared_options(cell for row in rows for cell in row.cells))
        name = " · ".join(filter(None, (section.title, detector, kind, backbone, options)))
        named[name if name not in named else f"{name} · {len(named)}"] = rows
    return named


def _named(rows: Sequence[Row], whole: bool) -> Iterable[tuple[str, Row]]:
    """Method, or method+detector; with what tells two rows of one name apart."""
    plain = ["+".join([row.spec["method"], *([row.spec["detector"]] if whole else [])]) for row in rows]
    for name, row in zip(plain, rows, strict=True):
        extra = row.label.strip("".join(MARKS.values())).removeprefix(row.spec["method"])
        yield (name if plain.count(name) == 1 else name + extra), row


def letters(found: Contest) -> list[str]:
    """A letter per clique, for each treatment: those that share one are not shown to differ."""
    marks = dict(enumerate(string.ascii_lowercase))
    return [
        "".join(marks.get(k, f"({k + 1})") for k, clique in enumerate(found.ranking.cliques) if place in clique)
        for place in range(len(found.names))
    ]


def ranks_warnings(found: Contest) -> list[str]:
    """What the ranking cannot carry."""
    lines = []
    if len(found.blocks) < FEWEST_BLOCKS:
        lines.append(f"{len(found.blocks)} blocks: below {FEWEST_BLOCKS} the tests are rough and find little")
    if found.datasets < len(found.blocks):
        lines.append(
            f"{len(found.blocks)} blocks come from {found.datasets} data set{'s' * (found.datasets > 1)}: "
            "blocks that share images are not independent, so differences are overstated"
        )
    if found.ranking.p >= 0.05:
        lines.append("Friedman's test does not show any difference (p of 0.05 or more): read no order into the ranks")
    if found.absent:
        lines.append(f"left out, not run in every block: {', '.join(found.absent)}")
    return lines


def ranks_text(found: Contest, metric: str) -> str:
    """Mean ranks, means and groups of a contest, its tests, its blocks, and its warnings."""
    from tabulate import tabulate

    ranks = found.ranking.ranks
    lines = [
        [name, f"{place:.2f}", f"{mean:.3f}", group]
        for name, place, mean, group in zip(found.names, ranks, found.scores.mean(axis=0), letters(found), strict=True)
    ]
    head = ("", "mean rank", metric, "groups")
    return "\n".join(
        [
            tabulate(lines, head, disable_numparse=True, colalign=("left", "right", "right", "left")),
            "",
            summary(found),
            "Methods that share a letter are not shown to differ. Blocks:",
            *(f"  {block}" for block in found.blocks),
            *(f"warning: {line}" for line in ranks_warnings(found)),
            "",
        ]
    )


def summary(found: Contest) -> str:
    """The tests in one sentence."""
    ranking = found.ranking
    return (
        f"Friedman over {len(found.blocks)} blocks: chi-square = {ranking.statistic:.2f}, p = {ranking.p:.3g}; "
        f"Nemenyi's critical difference at 0.05: {ranking.critical:.2f} ranks."
    )
