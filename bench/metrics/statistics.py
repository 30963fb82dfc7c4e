"""Intervals and tests over runs × classes: what may be said of a mean, a difference, a ranking.

A run is one (order, seed). The same classes recur in every run, so classes are crossed with runs, and seeds are nested
in orders: the bootstrap draws orders, seeds within each drawn order, and one set of classes that all runs share (for
crossed factors: Owen, The pigeonhole bootstrap, Annals of Applied Statistics 1(2), 2007). Drawing classes anew in every
run would treat them as independent, and would give intervals that are too narrow.
"""

import math
from collections.abc import Hashable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

ROUNDS = 2000
LEVEL = 0.95
# Below it the two-sided signed-rank test cannot reach p < 0.05, whatever the differences: 2 / 2**5 = 0.0625.
FEWEST_PAIRS = 6
FEWEST_BLOCKS = 10  # the chi-square approximation of Friedman's test wants more (Demšar, JMLR 7, 2006, 3.2.2)


class Interval(NamedTuple):
    """A mean and its bootstrap interval; NaN where undefined."""

    mean: float
    low: float
    high: float


def interval(values, orders: Sequence[Hashable] | None = None, level: float = LEVEL, rounds: int = ROUNDS) -> Interval:
    """Mean of `values` (runs, classes) with its percentile interval of the hierarchical bootstrap.

    `orders` (runs,) names the class order of each run (default: one order). Always the same for the same values. A
    level with one member (one order, one seed, one class) cannot vary, so it adds nothing to the width. A missing value
    makes all of it missing; ValueError where shapes do not fit.
    """
    values = np.asarray(values, float)
    orders = [0] * len(values) if orders is None else list(orders)
    if values.ndim != 2 or len(orders) != len(values):
        raise ValueError(f"values have shape {values.shape}, orders {len(orders)}; (runs, classes) and (runs,) needed")
    if not values.size or np.isnan(values).any():
        return Interval(math.nan, math.nan, math.nan)
    groups = [tuple(i for i, order in enumerate(orders) if order == name) for name in dict.fromkeys(orders)]
    mean = float(np.mean([values[list(group)].mean() for group in groups]))
    if values.size == 1:
        return Interval(mean, math.nan, math.nan)
    weights, classes = _draws(tuple(groups), *values.shape, rounds)
    means = np.einsum("br,rc,bc->b", weights, values, classes, optimize=True)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high))


@lru_cache(maxsize=8)  # a table asks for the same ones row by row
def _draws(groups: tuple[tuple[int, ...], ...], runs: int, width: int, rounds: int) -> tuple[np.ndarray, np.ndarray]:
    """The weights (rounds, runs) and (rounds, width) of what is drawn again; they do not depend on the values."""
    rng = np.random.default_rng(0)
    weights = _run_weights(rng, groups, runs, rounds)
    return weights, rng.multinomial(width, np.full(width, 1 / width), rounds) / width


def _run_weights(rng, groups, runs: int, rounds: int) -> np.ndarray:
    """(rounds, runs): the weight of each run when orders, and seeds within each drawn order, are drawn again."""
    weights = np.zeros((rounds, runs))
    drawn = rng.integers(len(groups), size=(rounds, len(groups)))
    for slot in range(len(groups)):
        for index, group in enumerate(groups):
            chosen = drawn[:, slot] == index
            counts = rng.multinomial(len(group), np.full(len(group), 1 / len(group)), int(chosen.sum()))
            weights[np.ix_(chosen, group)] += counts / (len(group) * len(groups))
    return weights


class SignedRank(NamedTuple):
    """Wilcoxon's signed-rank test, two-sided: the pairs that differ, the smaller rank sum, the p-value."""

    pairs: int
    statistic: float
    p: float


def signed_rank(differences) -> SignedRank:
    """SciPy's Wilcoxon test of `differences` (any shape); pairs without a difference are left out (Wilcoxon 1945)."""
    from scipy.stats import wilcoxon

    differences = np.ravel(np.asarray(differences, float))
    differences = differences[differences != 0]
    if not len(differences) or np.isnan(differences).any():
        return SignedRank(len(differences), math.nan, math.nan)
    found = wilcoxon(differences)
    return SignedRank(len(differences), float(found.statistic), float(found.pvalue))


class Ranking(NamedTuple):
    """Friedman's test over blocks, Nemenyi's critical difference, and the sets of treatments that do not differ."""

    ranks: np.ndarray  # (treatments,) mean rank, 1 = best
    blocks: int
    statistic: float
    p: float
    critical: float  # mean ranks further apart than this differ at level 0.05
    cliques: list[tuple[int, ...]]  # treatments, best first, each within the critical difference; none within another


def rank(scores, level: float = LEVEL) -> Ranking:
    """Rank `scores` (blocks, treatments), higher is better, ties shared; ValueError below 2 blocks or 3 treatments."""
    from scipy.stats import friedmanchisquare, rankdata, studentized_range

    scores = np.asarray(scores, float)
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
