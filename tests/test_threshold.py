"""Thresholds set on images that no method trains on: of a class, of the line, of the step routed to."""

import numpy as np
import pytest

from bench.metrics.scoring import Judged, Rows, Truth
from bench.metrics.thresholds import AT_THRESHOLD


@pytest.fixture
def rows(stream, arrays):
    return Rows(stream, Truth(arrays, len(stream.classes)))


def judged(rows, column, good, bad, route=None):
    """Every normal test image of a class scores `good`, every anomalous one `bad`."""
    labels = rows.truth.labels[column]
    of_image = None if route is None else np.full(len(labels), route, np.int32)
    return Judged(np.where(labels > 0, bad, good).astype(np.float32), route=of_image)


def held(low):
    """19 normal images whose threshold is their maximum, low + 1.8."""
    return Judged((low + np.arange(19) / 10).astype(np.float32))


def test_the_threshold_of_the_line_is_set_on_all_classes_seen_and_counted_over_all(rows):
    # the first class is told apart; in the second every normal image and no anomalous one lies above
    said = {0: judged(rows, 0, 0.0, 9.0), 1: judged(rows, 1, 9.0, 0.0)}
    rows.enter(1, said, {0: held(0.0), 1: held(1.0)})
    pooled = np.sort([*held(0.0).score, *held(1.0).score])
    assert rows.threshold["value"][1] == pytest.approx(np.quantile(pooled, 0.95, method="weibull"))
    good, bad = ([int((rows.truth.labels[c] == kind).sum()) for c in (0, 1)] for kind in (0, 1))
    assert {name: rows.threshold[name][1] for name in AT_THRESHOLD} == {
        "precision": pytest.approx(bad[0] / (bad[0] + good[1])),
        "recall": pytest.approx(bad[0] / sum(bad)),
        "f1": pytest.approx(2 * bad[0] / (bad[0] + good[1] + sum(bad))),
        "false_alarm": pytest.approx(good[1] / sum(good)),
    }
    assert all(np.isnan(rows.threshold[name][0]) for name in AT_THRESHOLD)


def test_the_threshold_of_a_class_stays_as_it_was_set_and_shows_what_forgetting_does(rows):
    rows.enter(0, {0: judged(rows, 0, 1.0, 3.0)}, {0: held(0.0)})
    rows.enter(1, {0: judged(rows, 0, 4.0, 1.0), 1: judged(rows, 1, 0.0, 9.0)}, {0: held(3.0), 1: held(0.0)})
    R = rows.matrices
    assert R["class_false_alarm"][:2, 0].tolist() == [0, 1] and R["class_recall"][:2, 0].tolist() == [1, 0]
    assert R["class_false_alarm"][1, 1] == 0 and R["class_recall"][1, 1] == 1
    assert R["class_threshold"][:2, 0] == pytest.approx([1.8, 4.8])
    spread = held(0.0).score.std(ddof=1)
    assert R["class_threshold_shift"][:2, 0] == pytest.approx([0, 3 / spread])
    assert np.isnan(R["class_false_alarm"][0, 1])


def test_an_image_that_is_routed_meets_the_threshold_of_that_step(rows):
    thresholds = {0: held(0.0), 1: held(10.0)}  # 1.8 and 11.8
    said = {0: judged(rows, 0, 1.0, 5.0, route=0), 1: judged(rows, 1, 11.0, 20.0, route=1)}
    rows.enter(1, said, thresholds)
    found = {name: rows.threshold[f"routed_{name}"][1] for name in AT_THRESHOLD}
    assert found == {"f1": 1, "precision": 1, "recall": 1, "false_alarm": 0}
    assert rows.threshold["recall"][1] == 0.5, "one threshold for both does not find the lower class's defects"
    assert rows.threshold["routed_calibration_error"][1] == pytest.approx(0.05)
    said[1] = judged(rows, 1, 11.0, 20.0, route=0)
    rows.enter(1, said, thresholds)
    assert rows.threshold["routed_false_alarm"][1] == pytest.approx(
        (rows.truth.labels[1] == 0).sum() / sum((rows.truth.labels[c] == 0).sum() for c in (0, 1))
    )
    assert rows.threshold["routed_calibration_error"][1] == pytest.approx((0.05 + 0.95) / 2)


def test_a_class_tested_alone_has_its_row_and_nothing_is_pooled(rows):
    rows.enter(1, {1: judged(rows, 1, 1.0, 3.0)}, {1: held(0.0)})
    assert rows.matrices["image_auroc"][1, 1] == 1 and np.isnan(rows.matrices["image_auroc"][1, [0, 2]]).all()
    assert rows.matrices["class_recall"][1, 1] == 1
    assert np.isnan(rows.pooled["image_auroc"]).all() and np.isnan(rows.threshold["value"]).all()


def test_classes_yet_to_come_have_rows_but_count_for_no_line(rows):
    said = {0: judged(rows, 0, 0.0, 9.0), 1: judged(rows, 1, 9.0, 0.0)}
    rows.enter(0, said, {0: held(0.0)})
    assert rows.matrices["image_auroc"][0, :2].tolist() == [1, 0]
    assert rows.pooled["image_auroc"][0] == 1 and rows.threshold["false_alarm"][0] == 0


def test_without_images_held_out_there_is_no_threshold(rows):
    rows.enter(0, {0: judged(rows, 0, 0.0, 9.0)}, {})
    assert all(np.isnan(values).all() for values in rows.threshold.values())
    assert not any(name.startswith("class_") for name in rows.matrices)


def test_rows_go_on_from_what_was_put_back(rows, stream, arrays):
    rows.enter(0, {0: judged(rows, 0, 1.0, 3.0)}, {0: held(0.0)})
    other = Rows(stream, Truth(arrays, len(stream.classes)))
    other.put(0, rows.row(0))
    for one in (rows, other):
        one.enter(1, {0: judged(one, 0, 4.0, 1.0), 1: judged(one, 1, 0.0, 9.0)}, {0: held(3.0), 1: held(0.0)})
    assert all(np.array_equal(R, other.matrices[name], equal_nan=True) for name, R in rows.matrices.items())


def test_a_row_put_back_fills_what_it_has_and_nothing_else(rows):
    rows.put(1, {f"threshold.{name}": np.array(0.5) for name in ("value", "f1", "false_alarm")})
    assert rows.threshold["f1"][1] == 0.5 and np.isnan(rows.threshold["f1"][[0, 2]]).all()
    assert np.isnan(rows.threshold["recall"]).all()
