"""What a matrix R says: final average, plasticity, transfer, forgetting by each definition.

R is (T, C): the score of class c after step t, as a fraction, higher is better, NaN where it was not evaluated.
`learned_at` (C,) holds the step (0..T-1) that brings class c. Classes of the last step have had no time to be
forgotten; the others are "old". Every function takes (R, learned_at) and returns one float. Means are over classes,
each with the same weight. A cell that a formula needs and that is NaN makes the result NaN, as does a formula with no
class to average over (forgetting of a single step): an incomplete row gets no mean. A maximum over rows is one over
those in which the class was tested (`bench run --eval-every`), which its own must be. Forgetting: lower is better,
negative means that old classes improved. ValueError if the shapes do not fit.

In the formulas F[c] = R[T-1, c] is the final score, L[c] = R[learned_at[c], c] the score when just learned.
"""

import numpy as np


def final_average(R, learned_at):
    """mean_c F[c] over all classes."""
    R, _ = _checked(R, learned_at)
    return _mean(R[-1])


def plasticity(R, learned_at):
    """mean_c L[c] over all classes: how well a class is learned when it arrives."""
    R, learned_at = _checked(R, learned_at)
    return _mean(_learned(R, learned_at))


def step_average(R, learned_at):
    """mean over steps t of the mean over seen c (learned_at[c] <= t) of R[t, c]: early classes count in more steps.

    Steps before the first class count in nothing: where classes without masks come first, R lacks their columns.
    """
    R, learned_at = _checked(R, learned_at)
    seen = learned_at <= np.arange(len(R))[:, None]
    counts = seen.sum(axis=1)
    return _mean((np.where(seen, R, 0).sum(axis=1) / np.maximum(counts, 1))[counts > 0])


def bwt(R, learned_at):
    """mean over old c of F[c] - L[c]; positive: old classes improved."""
    return -forgetting_first_last(R, learned_at)


def fwt(R, learned_at, baseline=0.0):
    """mean over c with learned_at[c] > 0 of R[learned_at[c] - 1, c] - baseline: the score just before c is learned.

    `baseline` (a number or one per class) is the score of an untrained model, which R does not hold.
    """
    R, learned_at = _checked(R, learned_at)
    before = R[np.maximum(learned_at - 1, 0), np.arange(R.shape[1])] - baseline
    return _mean(before[learned_at > 0])


def forgetting(R, learned_at):
    """mean over old c of max(R[learned_at[c] .. T-2, c]) - F[c]."""
    R, learned_at = _checked(R, learned_at)
    best = _best(R, learned_at, len(R) - 1)
    return _mean((best - R[-1])[_old(R, learned_at)])


def forgetting_clipped(R, learned_at):
    """mean over old c of max(R[learned_at[c] .. T-1, c]) - F[c]: the last step is in the maximum, so never below 0."""
    R, learned_at = _checked(R, learned_at)
    best = _best(R, learned_at, len(R))
    return _mean((best - R[-1])[_old(R, learned_at)])


def forgetting_first_last(R, learned_at):
    """mean over old c of L[c] - F[c], which is -BWT."""
    R, learned_at = _checked(R, learned_at)
    return _mean((_learned(R, learned_at) - R[-1])[_old(R, learned_at)])


def forgetting_with_current(R, learned_at):
    """mean over all c of max(R[0 .. T-2, c]) - F[c]: rows before c is learned count, and the last step's classes too.

    A class just learned usually gains, so this is lower than `forgetting`. NaN unless classes yet to come were scored.
    """
    R, _ = _checked(R, learned_at)
    if len(R) == 1:
        return float("nan")
    return _mean(R[:-1].max(axis=0) - R[-1])


def forgetting_per_step(R, learned_at):
    """mean over old c of (L[c] - F[c]) / (T-1 - learned_at[c]): the average decrease from one step to the next.

    Our reading of "average decrease": neither a formula nor code was published.
    """
    R, learned_at = _checked(R, learned_at)
    old = _old(R, learned_at)
    return _mean((_learned(R, learned_at) - R[-1])[old] / (len(R) - 1 - learned_at[old]))


def forgetting_relative(R, learned_at):
    """mean over old c of 1 - F[c] / max(R[learned_at[c] .. T-2, c]); signed, 0 for a class that never scored."""
    R, learned_at = _checked(R, learned_at)
    best = _best(R, learned_at, len(R) - 1)
    return _mean(_drop(best, R[-1])[_old(R, learned_at)])


def forgetting_relative_clipped(R, learned_at):
    """mean over old c of max(0, 1 - F[c] / max(R[0 .. T-2, c])); rows before c is learned count, so they are needed."""
    R, learned_at = _checked(R, learned_at)
    if len(R) == 1:
        return float("nan")
    return _mean(np.maximum(_drop(R[:-1].max(axis=0), R[-1]), 0)[_old(R, learned_at)])


def forgetting_relative_off_by_one(R, learned_at):
    """sum over old c except those of step T-2 of (L[c] - F[c]) / L[c], divided by the number of all old classes.

    With ten steps of one class: eight of nine terms, divided by nine.
    """
    R, learned_at = _checked(R, learned_at)
    old = _old(R, learned_at)
    drop = _drop(_learned(R, learned_at), R[-1])[old]
    return _mean(np.where(learned_at[old] < len(R) - 2, drop, 0.0))


def bank_size_difference(large, small):
    """mean_c large[c] - mean_c small[c]: two separate runs, memory bank of 1960 and of 196 per class; no sequence."""
    return _mean(large) - _mean(small)


def joint_minus_replay(joint, replay):
    """mean_c joint[c] - mean_c replay[c]: two separate runs, trained on real and on replayed images; no sequence."""
    return _mean(joint) - _mean(replay)


def _checked(R, learned_at):
    R, learned_at = np.asarray(R, float), np.asarray(learned_at)
    if R.ndim != 2 or not R.size or learned_at.shape != R.shape[1:]:
        raise ValueError(f"R has shape {R.shape}, learned_at {learned_at.shape}; (T, C) and (C,) are needed")
    if learned_at.min() < 0 or learned_at.max() >= len(R):
        raise ValueError(f"learned_at runs from {learned_at.min()} to {learned_at.max()}; R has steps 0..{len(R) - 1}")
    return R, learned_at


def _mean(values):
    values = np.asarray(values, float)
    return float(values.mean()) if values.size else float("nan")


def _old(R, learned_at):
    return learned_at < len(R) - 1


def _learned(R, learned_at):
    return R[learned_at, np.arange(R.shape[1])]


def _best(R, learned_at, stop):
    """Best score of each class over the rows learned_at[c] .. stop-1 in which it was tested; -inf without rows.

    A class is always tested when it has been learned: without that row it has no best score.
    """
    steps = np.arange(len(R))[:, None]
    untested = np.isnan(R) & (steps > learned_at)
    return np.where((steps >= learned_at) & (steps < stop) & ~untested, R, -np.inf).max(axis=0)


def _drop(before, after):
    """Relative loss 1 - after / before; 0 where there was nothing to lose."""
    return np.where(before == 0, 0.0 * after, 1 - after / np.where(before == 0, 1, before))
