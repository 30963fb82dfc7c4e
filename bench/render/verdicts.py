"""What a run under a protocol is shown to be: tier of its rows, what they beat; measured beside printed."""

import math
from collections.abc import Collection, Iterator, Sequence
from itertools import combinations

from bench.analysis.groups import Section
from bench.analysis.orders import over_orders
from bench.analysis.race import Standing, difference, out_of_race, standing
from bench.analysis.rows import Row
from bench.metrics.statistics import FEWEST_CLASSES, FEWEST_RUNS, holm
from bench.published import PRINTED_AS, Published
from bench.published import load_published as load_published
from bench.render.leaderboard.compare import compare_with_published
from bench.render.leaderboard.tables import MISSING, amount, score_text, span
from bench.schema.metric import summarised
from bench.schema.protocol import Protocol


def verdicts(sections: Sequence[Section], keys: Collection[str], budget_mb: float | None = None) -> str:
    """A paragraph for each row that holds one of the cells `keys`, class orders taken together."""
    parts = []
    for rows in over_orders(sections):
        found = standing(rows)
        for row in rows:
            if any(cell["key"] in keys for cell in row.cells):
                parts.append("\n".join(_paragraph(row, rows, found, budget_mb)))
    return "\n\n".join(parts)


def _paragraph(row: Row, rows: Sequence[Row], found: Standing, budget_mb: float | None) -> Iterator[str]:
    orders = sorted({cell["spec"]["order"] for cell in row.cells})
    runs = f"{len(row.cells)} run{'s' * (len(row.cells) > 1)} in order {', '.join(orders)}"
    yield f"{row.spec['scenario']}@{row.spec['scenario_version']} {row.short} + {row.spec['detector']}, {runs}"
    if row.status:
        yield f"  {row.status}"
        return
    carried = row.stat("carried_mb").mean
    yield (
        f"  tier {found.tier(row)}; image AUROC {score_text(row.stat('final_image_auroc'))} (over classes "
        f"{span(row.interval())}), forgetting {score_text(row.stat('forgetting_image_auroc'))}, "
        f"pixel AUPRO {score_text(row.stat('final_aupro'))}, carried {amount(carried)} MB{_within(carried, budget_mb)}"
    )
    tested = [*found.best, *found.below]
    if any(row is other for other in tested):
        # Against every other tested row, by Holm's procedure over all pairs of the table.
        others = [other for other in tested if other is not row]
        means = [difference(row, other) for other in others]
        shown = holm(means, len(list(combinations(tested, 2))))
        kinds = ("beats", "not shown to differ from", "is beaten by", "no run as")
        against: dict[str, list[str]] = {kind: [] for kind in kinds}
        for other, mean, told in zip(others, means, shown, strict=True):
            kind = "no run as" if math.isnan(mean.mean) else "not shown to differ from"
            against[("beats" if mean.mean > 0 else "is beaten by") if told else kind].append(other.short)
        for kind, names in against.items():
            if names or kind in ("beats", "not shown to differ from"):
                yield f"  {kind}: {', '.join(names) or 'nothing'}"
    elif reason := out_of_race(row):
        yield f"  not ranked: {reason}"
    else:
        yield f"  no difference can be shown: that takes two rows with {FEWEST_RUNS} runs and {FEWEST_CLASSES} classes"
    if bounds := [other for other in rows if other is not row and not other.status and out_of_race(other)]:
        told = (
            f"{other.short} {score_text(other.stat('final_image_auroc'))} ({out_of_race(other)})" for other in bounds
        )
        yield f"  beside it, out of the race: {', '.join(told)}"


def _within(carried: float, budget_mb: float | None) -> str:
    if budget_mb is None or math.isnan(carried):
        return ""
    return f" ({'within' if carried <= budget_mb else 'OVER'} the protocol's {budget_mb:g} MB)"


def printed(protocol: Protocol) -> list[str]:
    """What papers print of a protocol's systems on its streams, a line each."""
    systems = [(method, detector) for method in protocol.methods for detector in protocol.detectors]
    names = {name for system in systems for name in PRINTED_AS.get(system, ())}
    places = {place for name in protocol.scenarios for place in (name, f"{name.partition('/')[0]}/*")}
    return [
        f"{row.method}, {row.scenario}, {row.metric} {row.value:.3f}"
        + (f", FM {row.fm:.3f} ({row.fm_def})" if row.fm is not None else "")
        + f"; {row.source}, {row.trust}"
        for row in load_published()
        if row.method in names and row.scenario in places and not row.of_class and row.metric in summarised()
    ] or ["no number that could be read"]


def beside_paper(sections: Sequence[Section], keys: Collection[str], published: Sequence[Published]) -> str:
    """Measured beside printed, each with its verdict, for the rows that hold one of the cells `keys`."""
    from tabulate import tabulate

    pairs = [
        pair for section in sections for pair in compare_with_published(section, published)
        if any(cell["key"] in keys for cell in pair.row.cells)
    ]  # fmt: skip
    if not pairs:
        return "No printed number that could be read is of these rows: nothing to compare with."
    lines = [
        (
            f"{pair.row.spec['scenario']} {pair.row.short} + {pair.row.spec['detector']}", pair.published.metric,
            score_text(pair.measured), f"{pair.published.value:.3f}", pair.verdict, score_text(pair.lost),
            MISSING if pair.published.fm is None else f"{pair.published.fm:.3f} ({pair.published.fm_def})",
            f"{pair.published.source}, {pair.published.trust}",
        )
        for pair in pairs
    ]  # fmt: skip
    head = ("system", "metric", "measured", "printed", "verdict", "FM here", "FM there", "source")
    return tabulate(lines, head, tablefmt="simple", disable_numparse=True)
