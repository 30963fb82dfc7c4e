"""Two systems on the same runs and classes: difference, interval, signed-rank test, and what the numbers cannot say."""

import numpy as np

from bench.analysis.pairing import Pairing
from bench.metrics.statistics import FEWEST_CLASSES, FEWEST_PAIRS, FEWEST_RUNS, CrossedMean


def paired_text(found: Pairing, metric: str) -> str:
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
    difference, interval, classes = found.crossed(), found.crossed().interval(), found.over_classes()
    differ = f"{_count(classes.pairs, 'class')} that differ"
    test = f"W = {classes.statistic:g}, p = {classes.p:.3g}, {differ}"
    if classes.pairs < FEWEST_PAIRS:
        test = f"p < 0.05 cannot be shown with {differ}"
    return "\n".join(
        [
            head,
            *(f"{letter}  {name}" for letter, name in zip("AB", found.names, strict=True)),
            "",
            grid,
            "",
            f"A - B = {interval.mean:+.3f}, 95 % interval {interval.low:+.3f} to {interval.high:+.3f} "
            "(other classes and other runs)",
            f"Wilcoxon signed-rank over classes, mean of runs: {test}",
            verdict(difference, len(found.runs), len(found.classes)),
            *(f"warning: {line}" for line in paired_warnings(found)),
        ]
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}{'es' if what.endswith('s') else 's'}"


def verdict(difference: CrossedMean, runs: int, classes: int) -> str:
    """A sentence: a difference is claimed where the design allows it and the crossed interval excludes 0."""
    if runs < FEWEST_RUNS or classes < FEWEST_CLASSES:
        needed = f"{FEWEST_RUNS} runs and {FEWEST_CLASSES} classes"
        return (
            f"A difference cannot be shown with {_count(runs, 'run')} and {_count(classes, 'class')}: {needed} needed."
        )
    if not difference.shown():
        return f"Not shown to differ: differences below {difference.half():.3f} cannot be shown with this design."
    return f"{'A' if difference.mean > 0 else 'B'} is better: the interval over classes and runs excludes 0."


def paired_warnings(found: Pairing) -> list[str]:
    """What the figures cannot carry."""
    lines, classes = [], found.over_classes()
    if np.isnan(found.scores).any():
        lines.append("a score is missing in one of the runs, so there is no mean")
    if len(found.runs) == 1:
        lines.append("one run: the interval does not know how much another seed would change")
    elif found.crossed().shown() and classes.pairs >= FEWEST_PAIRS and classes.p >= 0.05:
        lines.append("ranks alone do not show it: the signed-rank test over classes has p of 0.05 or more")
    if len(set(found.orders)) == 1:
        lines.append("one class order: another order may give another result (--order random:0)")
    if len(set(found.weights)) > 1:
        lines.append(f"A starts from {found.weights[0]}, B from {found.weights[1]}: not the same start")
    return lines
