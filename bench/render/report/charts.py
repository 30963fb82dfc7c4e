"""Pictures over many systems: accuracy against carried bytes, and critical differences."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench import results
from bench.analysis import ranks as ranking
from bench.analysis.groups import Section
from bench.analysis.pairing import system_name
from bench.analysis.race import standing
from bench.errors import BadInput
from bench.render.report.boards import named
from bench.render.report.field import ranked
from bench.schema.metric import headings, summarised
from bench.schema.record import Record

CONTESTS = ("image_auroc", "aupro", "pixel_ap")
WIDTH, LABEL, LEFT, RIGHT = 860, 22, 210, 210  # px: of the drawing, of a label's line, of the labels' margins


@dataclass(frozen=True)
class Diagram:
    """Coordinates of a critical-difference diagram (Demšar 2006, figure 1), in px."""

    height: float
    axis: float  # y of the axis
    ticks: list[tuple[float, int]]
    critical: float  # length of the bar
    labels: list[tuple[float, float, float, str, str]]  # x on the axis, y, x of the text, anchor, text
    bars: list[tuple[float, float, float]]  # from, to, y


def contests(cells: Iterable[Record]) -> list[dict]:
    """Ranking and diagram per metric, or the sentence that says why there is none."""
    cells, found = list(cells), []
    for metric in CONTESTS:
        try:
            one = ranking.contest(cells, metric)
        except BadInput as error:
            found.append({"metric": headings()[metric], "reason": str(error)})
            continue
        found.append(
            {
                "metric": headings()[metric],
                "lines": list(
                    zip(one.names, one.ranking.ranks, one.scores.mean(axis=0), ranking.letters(one), strict=True)
                ),
                "critical_difference": one.ranking.critical,
                "summary": ranking.summary(one),
                "warnings": ranking.ranks_warnings(one),
                "blocks": one.blocks,
                "diagram": diagram(one),
            }
        )
    return found


def diagram(contest: ranking.Contest) -> Diagram:
    """Ranks from 1 (left, best); labels of the better half on the left; bars join what does not differ."""
    ranks, names = contest.ranking.ranks, contest.names
    unit = (WIDTH - LEFT - RIGHT) / (len(names) - 1)
    axis = 62.0

    def x(rank: float) -> float:
        return round(LEFT + (rank - 1) * unit, 1)

    joined = [clique for clique in contest.ranking.cliques if len(clique) > 1]
    bars = [(x(ranks[c[0]]) - 4, x(ranks[c[-1]]) + 4, axis + 14 + 9 * k) for k, c in enumerate(joined)]
    first = axis + 30 + 9 * len(joined)
    half = (len(names) + 1) // 2
    labels = []
    for place, (name, rank) in enumerate(zip(names, ranks, strict=True)):
        left = place < half
        row = place if left else len(names) - 1 - place
        text = f"{name}  {rank:.2f}" if left else f"{rank:.2f}  {name}"
        labels.append(
            (x(rank), first + row * LABEL, *((LEFT - 14, "end") if left else (WIDTH - RIGHT + 14, "start")), text)
        )
    ticks = [(x(rank), rank) for rank in range(1, len(names) + 1)]
    return Diagram(first + half * LABEL, axis, ticks, round(contest.ranking.critical * unit, 1), labels, bars)


def fields(sections: Sequence[Section], pages: Mapping[str, str]) -> dict:
    """For the plot of accuracy against carried bytes, and A against B: every complete row, by board.

    `runs`: by seed, the image AUROC of each class after the last step.
    """
    boards = []
    for section in sections:
        for weights, rows in section.by_weights().items():
            tiers = [standing(rows).tier(row) for row in rows]
            racing = ranked(tiers)
            points = [
                {
                    "method": row.label,
                    "system": system_name(row.spec),
                    "detector": row.spec["detector"],
                    "href": pages[row.cells[0]["key"]],
                    "races": tier in racing,
                    "carried_mb": row.stat("carried_mb").mean,
                    "scores": {metric: row.stat(f"final_{metric}").mean for metric in summarised()},
                    "halves": {metric: row.stat(f"final_{metric}").half for metric in summarised()},
                    "runs": {str(cell["spec"]["seed"]): cell["matrices"]["image_auroc"][-1] for cell in row.cells},
                }
                for row, tier in zip(rows, tiers, strict=True)
                if not row.status
            ]
            if points:
                about = {"scenario": section.spec["scenario"], "classes": section.spec["classes"]}
                boards.append({"title": f"{section.title} · {named(weights)}", "points": points} | about)
    return results.plain({"metrics": headings(), "boards": boards})
