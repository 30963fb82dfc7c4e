"""Intervals and tests over runs × classes: what may be said of a mean, a difference, a ranking.

A run is one (order, seed). The same classes recur in every run, so classes are crossed with runs, and seeds are nested
in orders: where there are several orders, the mean of an order's seeds is one run of the model. Both are random factors
of a crossed model without replication, so a statement holds for other classes and other runs.
"""

import math
from collections.abc import Hashable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

LEVEL = 0.95
DIGITS = 9  # scores that differ by less are one number: what summing in another order changes is no difference
# Below it the two-sided signed-rank test cannot reach p < 0.05, whatever the differences: 2 / 2**5 = 0.0625.
FEWEST_PAIRS = 6
FEWEST_BLOCKS = 10  # the chi-square approximation of Friedman's test wants more (Demšar, JMLR 7, 2006, 3.2.2)
# The design below which no difference is claimed: fewer runs say nothing of what another seed would change.
FEWEST_RUNS, FEWEST_CLASSES = 3, 6
FEWEST_ORDERS = 3  # an interval over two is as wide as the scale


class Interval(NamedTuple):
    """A mean and its interval; NaN where undefined."""

    mean: float
    low: float
    high: float


class CrossedMean(NamedTuple):
    """Mean over runs × classes, both drawn from larger populations; NaN where undefined."""

    mean: float
    parts: tuple[tuple[float, int], ...]  # variance of the mean and degrees of freedom: of the classes, of the runs

    def half(self, level: float = LEVEL) -> float:
        """Half width of the interval: each part with its own quantile, which errs on the wide side (Cochran 1964)."""
        if not self.parts:
            return math.nan
        return math.sqrt(sum(student_quantile(level, freedom) ** 2 * part for part, freedom in self.parts))

    def interval(self, level: float = LEVEL) -> Interval:
        """Not bounded."""
        half = self.half(level)
        return Interval(self.mean, self.mean - half, self.mean + half)

    def shown(self, comparisons: int = 1) -> bool:
        """Whether the mean differs from 0 at 0.05 over so many comparisons (Bonferroni)."""
        return abs(self.mean) > self.half(1 - (1 - LEVEL) / comparisons)


def crossed_mean(values, orders: Sequence[Hashable] | None = None) -> CrossedMean:
    """Of `values` (runs, classes); `orders` (runs,) names the class order of each run (default: one order).

    Its variance is that of the classes' means plus that of the runs' means, each over its number: their interaction
    counts twice, which errs on the wide side. A factor with one member cannot vary, so it adds nothing. A missing value
    makes all of it missing; ValueError where shapes do not fit.
    """
    values = np.asarray(values, float)
    orders = [0] * len(values) if orders is None else list(orders)
    if values.ndim != 2 or len(orders) != len(values):
        raise ValueError(f"values have shape {values.shape}, orders {len(orders)}; (runs, classes) and (runs,) needed")
    if not values.size or np.isnan(values).any():
        return CrossedMean(math.nan, ())
    groups = [values[[order == name for order in orders]] for name in dict.fromkeys(orders)]
    runs = np.array([group.mean(axis=0) for group in groups]) if len(groups) > 1 else values
    runs = runs.round(DIGITS)
    margins = [means for means in (runs.mean(axis=0), runs.mean(axis=1)) if len(means) > 1]
    parts = tuple((float(means.var(ddof=1)) / len(means), len(means) - 1) for means in margins)
    return CrossedMean(float(runs.mean().round(DIGITS)), parts)


def interval(values, orders: Sequence[Hashable] | None = None) -> Interval:
    """Mean of scores (runs, classes) with the 95 % interval of `crossed_mean`; bounded, for scores lie in 0..1."""
    mean, low, high = crossed_mean(values, orders).interval()
    return Interval(mean, *np.clip([low, high], 0, 1).tolist())


@lru_cache(maxsize=4096)
def student_p(statistic: float, freedom: int) -> float:
    """Two-sided p of Student's t its density in the angle arctan(sqrt(freedom) / |t|).

    The integral of sin(angle)^(freedom - 1) by Gauss and Legendre, error < 1e-7; importing SciPy takes 0.4 s.
    """
    angle = math.atan2(math.sqrt(freedom), abs(statistic))
    nodes, weights = _legendre()
    inside = np.sin(angle * nodes**2) ** (freedom - 1) * 2 * angle * nodes
    whole = math.lgamma(freedom / 2) - math.lgamma((freedom + 1) / 2) + math.log(math.pi) / 2
    return min(1.0, 2 * float(weights @ inside) / math.exp(whole))


@lru_cache(maxsize=4096)
def student_quantile(level: float, freedom: int) -> float:
    """What |t| stays below with probability `level`, by bisection."""
    low, high = 0.0, 1.0
    while student_p(high, freedom) > 1 - level:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if student_p(middle, freedom) > 1 - level else (low, middle)
    return high


@lru_cache(maxsize=1)
def _legendre() -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights on 0..1."""
    nodes, weights = np.polynomial.legendre.leggauss(128)
    return (nodes + 1) / 2, weights / 2


def holm(means: Sequence[CrossedMean], comparisons: int) -> list[bool]:
    """Which `means` differ from 0 at a family-wise 0.05 (Holm, Scandinavian Journal of Statistics 6, 1979).

    `comparisons` counts what was compared in all, at least as many as there are `means`.
    """
    shown = [False] * len(means)
    while True:
        left = max(1, comparisons - sum(shown))
        found = [already or mean.shown(left) for already, mean in zip(shown, means, strict=True)]
        if found == shown:
            return shown
        shown = found


def auroc_error(normal, anomalous) -> float:
    """Standard error of an AUROC over the test images (DeLong, DeLong & Clarke-Pearson, Biometrics 44, 1988).

    Scores of normal and anomalous images, at least two of each; ties count half.
    """
    normal, anomalous = np.sort(np.ravel(normal)), np.sort(np.ravel(anomalous))
    if min(len(normal), len(anomalous)) < 2:
        return math.nan
    above = [np.searchsorted(normal, anomalous, side) for side in ("left", "right")]
    below = [np.searchsorted(anomalous, normal, side) for side in ("left", "right")]
    of_anomalous = (above[0] + above[1]) / (2 * len(normal))
    of_normal = 1 - (below[0] + below[1]) / (2 * len(anomalous))
    return math.sqrt(of_anomalous.var(ddof=1) / len(anomalous) + of_normal.var(ddof=1) / len(normal))


class SignedRank(NamedTuple):
    """Wilcoxon's signed-rank test, two-sided: the pairs that differ, the smaller rank sum, the p-value."""

    pairs: int
    statistic: float
    p: float


def signed_rank(differences) -> SignedRank:
    """SciPy's Wilcoxon test of `differences` (any shape); pairs without a difference are left out (Wilcoxon 1945)."""
    from scipy.stats import wilcoxon

    differences = np.ravel(np.asarray(differences, float)).round(DIGITS)
    differences = differences[differences != 0]
    if not len(differences) or np.isnan(differences).any():
        return SignedRank(len(differences), math.nan, math.nan)
    found = wilcoxon(differences)
    return SignedRank(len(differences), float(found.statistic), float(found.pvalue))


class Ranking(NamedTuple):
    """Friedman's test over blocks, Nemenyi's critical difference, and the sets of treatments not shown to differ."""

    ranks: np.ndarray  # (treatments,) mean rank, 1 = best
    blocks: int
    statistic: float
    p: float
    critical: float  # mean ranks further apart than this differ at level 0.05
    cliques: list[tuple[int, ...]]  # treatments, best first, each within the critical difference; none within another


def rank_scores(scores, level: float = LEVEL) -> Ranking:
    """Rank `scores` (blocks, treatments), higher is better, ties shared; ValueError below 2 blocks or 3 treatments."""
    from scipy.stats import friedmanchisquare, rankdata, studentized_range

    scores = np.asarray(scores, float).round(DIGITS)
    if scores.ndim != 2 or scores.shape[0] < 2 or scores.shape[1] < 3:
        raise ValueError(f"scores have shape {scores.shape}; at least 2 blocks and 3 treatments are needed")
    blocks, treatments = scores.shape
    ranks = rankdata(-scores, axis=1).mean(axis=0)
    statistic, p = friedmanchisquare(*scores.T) if np.ptp(scores, axis=1).any() else (0.0, 1.0)
    q = studentized_range.ppf(level, treatments, np.inf) / math.sqrt(2)
    critical = float(q * math.sqrt(treatments * (treatments + 1) / (6 * blocks)))
    return Ranking(ranks, blocks, float(statistic), float(p), critical, cliques(ranks, critical))


def cliques(ranks, critical: float) -> list[tuple[int, ...]]:
    """The largest runs of neighbouring `ranks` that span no more than `critical`; a treatment may be in several."""
    order = np.argsort(ranks, kind="stable")
    found, reached = [], 0
    for start in range(len(order)):
        stop = start
        while stop < len(order) and ranks[order[stop]] - ranks[order[start]] <= critical:
            stop += 1
        if stop > reached:
            found.append(tuple(int(i) for i in order[start:stop]))
            reached = stop
    return found
