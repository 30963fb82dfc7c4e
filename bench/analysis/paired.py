"""Two systems on the same runs and classes: difference, interval, signed-rank test, and what the numbers cannot say."""

from pathlib import Path

import numpy as np

from bench import results
from bench.analysis.pairing import Pairing, pair
from bench.errors import BadInput
from bench.metrics.statistics import FEWEST_PAIRS, Interval, SignedRank


def compare(first: str, second: str, root: Path, metric: str = "image_auroc", scenario: str = "") -> str:
    """Text for `bench compare A B`."""
    cells = [cell for _, cell in results.scan(root) if not isinstance(cell, BadInput)]
    return "\n\n".join(text(found, metric) for found in pair(first, second, cells, metric, scenario)) + "\n"


def text(found: Pairing, metric: str) -> str:
    """One setting: both means, the difference with its interval, both tests, the classes, the warnings."""
    from tabulate import tabulate

    setting = found.setting
    runs = f"{_count(len(set(found.orders)), 'order')}, {_count(len(found.runs), 'run')}"
    head = f"{setting['scenario']}@{setting['scenario_version']}: {metric} after the last step, "
    head += f"{setting['image_size']} px, size {setting['size']}; {runs}, {_count(len(found.classes), 'class')}"
    means = found.scores.mean(axis=1)
    lines = [
        [name, *(f"{value:.3f}" for value in (*row, row[0] - row[1]))]
        for name, row in zip(["mean", *found.classes], [means.mean(axis=1), *means.T], strict=True)
    ]
    grid = tabulate(lines, ["", "A", "B", "A - B"], disable_numparse=True, colalign=("left", *["right"] * 3))
    difference, blocks, classes = found.interval(), found.over_blocks(), found.over_classes()
    return "\n".join(
        [
            head,
            *(f"{letter}  {name}" for letter, name in zip("AB", found.names, strict=True)),
            "",
            grid,
            "",
            f"A - B = {difference.mean:+.3f}, 95 % interval {difference.low:+.3f} to {difference.high:+.3f}",
            f"Wilcoxon signed-rank over (order, seed, class): {_test(blocks)}",
            f"Wilcoxon signed-rank over classes, mean of runs: {_test(classes)}",
            verdict(difference, blocks, classes),
            *(f"warning: {line}" for line in warnings(found)),
        ]
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}{'es' if what.endswith('s') else 's'}"


def _test(found: SignedRank) -> str:
    return f"W = {found.statistic:g}, p = {found.p:.3g}, {found.pairs} pairs that differ"


def verdict(difference: Interval, blocks: SignedRank, classes: SignedRank) -> str:
    """A sentence: a difference is claimed where interval and test agree, and in full where both tests do."""
    if not (difference.low * difference.high > 0 and blocks.p < 0.05):
        return "No difference is shown: the interval includes 0, or p is 0.05 or more."
    better = "A" if difference.mean > 0 else "B"
    if classes.p < 0.05:
        return f"{better} is better: the interval excludes 0, and p < 0.05 in both tests."
    return f"{better} is better on these runs; over classes alone the test does not show it (p = {classes.p:.3g})."


def warnings(found: Pairing) -> list[str]:
    """What the figures cannot carry."""
    lines, blocks = [], found.over_blocks()
    if np.isnan(found.scores).any():
        lines.append("a score is missing in one of the runs, so there is no mean")
    elif blocks.pairs < FEWEST_PAIRS:
        lines.append(f"{_count(blocks.pairs, 'pair')} that differ: below {FEWEST_PAIRS} the test cannot reach p < 0.05")
    if len(found.runs) == 1:
        lines.append("one run: neither the interval nor the test knows how much another seed would change")
    elif (blocks.p < 0.05) != (found.over_classes().p < 0.05):
        lines.append(
            "the tests disagree: the first counts each class once per run, and these blocks are not independent"
        )
    if len(set(found.orders)) == 1:
        lines.append("one class order: another order may give another result (--order random:0)")
    if len(set(found.weights)) > 1:
        lines.append(f"A starts from {found.weights[0]}, B from {found.weights[1]}: not the same start")
    return lines
