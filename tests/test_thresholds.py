"""Thresholds set on normal images: what they reject, how well they can be known, how they move."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import f1_score, recall_score, roc_curve

from bench.metrics import thresholds


@pytest.mark.parametrize("seed", range(4))
def test_threshold_metrics(seed):
    rng = np.random.default_rng(seed)
    scores, labels = rng.integers(0, 6, 60).astype(float), rng.random(60) < 0.3
    threshold = float(np.median(scores))
    ours = thresholds.threshold_metrics(scores, labels, threshold)
    rejected = scores > threshold
    assert ours["f1"] == pytest.approx(f1_score(labels, rejected))
    assert ours["recall"] == pytest.approx(recall_score(labels, rejected))
    assert ours["precision"] == pytest.approx(labels[rejected].mean())
    assert ours["false_alarm"] == pytest.approx(rejected[~labels].mean())
    assert thresholds.threshold_metrics(torch.from_numpy(scores), torch.from_numpy(labels), threshold) == ours


def test_threshold_metrics_without_cases():
    nothing = thresholds.threshold_metrics([0.5, 0.5], [0, 1], 0.5)
    assert (nothing["f1"], nothing["recall"], nothing["false_alarm"]) == (0, 0, 0)
    assert np.isnan(nothing["precision"])
    normal = thresholds.threshold_metrics([0.6, 0.4], [0, 0], 0.5)
    assert (normal["false_alarm"], normal["precision"]) == (0.5, 0)
    assert np.isnan(normal["f1"])
    assert np.isnan(normal["recall"])
    assert np.isnan(thresholds.threshold_metrics([0.6], [1], 0.5)["false_alarm"])
    with pytest.raises(ValueError, match="1 of 2 scores"):
        thresholds.threshold_metrics([np.nan, 0.5], [0, 1], 0.5)
    with pytest.raises(ValueError, match="threshold is nan"):
        thresholds.threshold_metrics([0.6, 0.5], [0, 1], np.nan)


def test_every_image_may_have_a_threshold_of_its_own():
    found = thresholds.threshold_metrics([1.0, 2.0, 3.0, 4.0], [0, 0, 1, 1], np.array([0.0, 2.0, 3.0, 3.0]))
    assert found == {"f1": 0.5, "precision": 0.5, "recall": 0.5, "false_alarm": 0.5}


@pytest.mark.parametrize("count", [19, 30, 59, 99])
def test_new_normal_images_exceed_the_threshold_as_often_as_it_says(count):
    """Scores of any distribution; a plain quantile of 19 images is exceeded by 10 % of new ones, not by 5 %."""
    rng = np.random.default_rng(count)
    shares, plain = [], []
    for _ in range(4000):
        scores = np.exp(2 * rng.normal(size=count))
        shares.append(1 - _normal_below(math.log(thresholds.threshold_for(scores)) / 2))
        plain.append(1 - _normal_below(math.log(np.quantile(scores, 0.95)) / 2))
    if (count + 1) % 20 == 0:
        assert np.mean(shares) == pytest.approx(0.05, abs=0.002)
    else:
        assert 1 / (count + 1) < np.mean(shares) < 0.05
    assert np.mean(plain) > np.mean(shares)


def _normal_below(x: float) -> float:
    return (1 + math.erf(x / math.sqrt(2))) / 2


TAILS = {
    "normal": stats.norm(),
    "log-normal": stats.lognorm(1),
    "little skewed": stats.lognorm(0.25),
    "Gumbel": stats.gumbel_r(),
    "gamma": stats.gamma(2),
    "exponential": stats.expon(),
    "Student": stats.t(5),
}


@pytest.mark.parametrize("tail", TAILS.values(), ids=TAILS)
@pytest.mark.parametrize(("count", "off"), [(5, 0.025), (10, 0.015), (18, 0.005)])
def test_where_images_are_too_few_for_the_quantile_the_rate_is_met_within_two_points(tail, count, off):
    """Their maximum, the nearest quantile, is exceeded by 17, 9 and 5.3 % of new ones instead of 5."""
    drawn = tail.rvs((4000, count), random_state=count)
    found = np.mean(tail.sf([thresholds.threshold_for(scores) for scores in drawn]))
    assert found == pytest.approx(0.05, abs=off)
    assert abs(found - 0.05) < np.mean(tail.sf(drawn.max(1))) - 0.05 + 0.003


def test_thresholds_follow_the_unit_and_the_origin_of_the_scores():
    for count in (1, 2, 3, 10, 19, 30):
        scores = np.random.default_rng(count).normal(size=count)
        moved = 3 * thresholds.threshold_for(scores) - 7
        assert thresholds.threshold_for(3 * scores - 7) == pytest.approx(moved)


def test_what_so_few_images_give_is_never_undefined():
    scores = np.random.default_rng(0).normal(size=19)
    assert thresholds.threshold_for(scores) == scores.max()
    assert thresholds.threshold_for([1.0]) == 1 and thresholds.threshold_for([2.0, 2.0, 2.0]) == 2
    assert math.isnan(thresholds.threshold_for([]))


@pytest.mark.parametrize("levels", [None, 5])
@pytest.mark.parametrize("rate", [0.01, 0.05, 0.3, 1.0])
def test_recall_at_a_share_of_false_alarms_is_a_point_of_the_roc_curve(rate, levels):
    rng = np.random.default_rng(7)
    labels = rng.random(300) < 0.3
    scores = rng.normal(size=300) + labels
    if levels:
        scores = np.round(scores * levels / 6)
    alarms, found, _ = roc_curve(labels, scores, drop_intermediate=False)
    assert thresholds.recall_at(scores, labels, rate) == pytest.approx(found[alarms <= rate + 1e-9].max())
    assert thresholds.recall_at(torch.from_numpy(scores), torch.from_numpy(labels), rate) == thresholds.recall_at(
        scores, labels, rate
    )


def test_recall_at_needs_both_kinds():
    assert math.isnan(thresholds.recall_at([1.0], [1], 0.05)) and math.isnan(thresholds.recall_at([1.0], [0], 0.05))


def test_drift_has_the_unit_of_the_normal_scores():
    """A ratio of thresholds near zero read -213 % to +72,772 %; in standard deviations it is what it is."""
    scores = np.random.default_rng(0).normal(1e-6, 0.5, 400)
    before, after = (thresholds.threshold_for(scores + shift) for shift in (0, 1.0))
    assert thresholds.drift(after, before, scores.std()) == pytest.approx(2, rel=0.1)
    assert math.isnan(thresholds.drift(1.0, 0.5, 0.0)) and math.isnan(thresholds.drift(1.0, 0.5, math.nan))


def test_calibration_error_is_the_mean_distance_from_the_nominal_rate():
    assert thresholds.calibration_error([0.05, 0.15, 0.0]) == pytest.approx((0.10 + 0.05) / 3)
    assert math.isnan(thresholds.calibration_error([0.05, np.nan]))
