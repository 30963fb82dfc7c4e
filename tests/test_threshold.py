"""One threshold for the whole line, set on normal training images: what it rejects, step by step."""

import numpy as np
import pytest

from bench.metrics.scoring import CALIBRATION_QUANTILE, Judged, Rows, Truth
from bench.metrics.thresholds import AT_THRESHOLD


@pytest.fixture
def rows(stream, arrays):
    return Rows(stream, Truth(arrays, len(stream.classes)))


def test_what_the_threshold_rejects_is_counted_over_all_classes_seen(rows):
    calibration = np.linspace(0, 1, 21)  # its 95 % quantile is 0.95
    assert np.quantile(calibration, CALIBRATION_QUANTILE) == pytest.approx(0.95)
    labels = rows.truth.labels[:2]
    # the first class is told apart; in the second every normal image and one anomalous one lie above
    first = np.where(labels[0] > 0, 2.0, 0.0)
    second = np.where(labels[1] > 0, 0.0, 2.0)
    second[np.flatnonzero(labels[1])[0]] = 2.0
    rows.enter(1, {0: Judged(first), 1: Judged(second)}, calibration)
    good, bad = (labels[1] == 0).sum(), (labels[1] > 0).sum()
    hits, alarms = (labels[0] > 0).sum() + 1, good
    found = {name: rows.threshold[name][1] for name in ("value", *AT_THRESHOLD)}
    assert found == {
        "value": pytest.approx(0.95),
        "precision": pytest.approx(hits / (hits + alarms)),
        "recall": pytest.approx(hits / ((labels[0] > 0).sum() + bad)),
        "f1": pytest.approx(2 * hits / (hits + alarms + (labels[0] > 0).sum() + bad)),
        "false_alarm": pytest.approx(alarms / ((labels[0] == 0).sum() + good)),
    }
    assert all(np.isnan(rows.threshold[name][0]) for name in AT_THRESHOLD)


def test_a_row_put_back_fills_what_it_has_and_nothing_else(rows):
    rows.put(1, {f"threshold.{name}": np.array(0.5) for name in ("value", "f1", "false_alarm")})
    assert rows.threshold["f1"][1] == 0.5 and np.isnan(rows.threshold["f1"][[0, 2]]).all()
    assert np.isnan(rows.threshold["recall"]).all()
