"""Evaluation after some steps only: the class just learned is always tested; classes yet to come where asked."""

from dataclasses import replace

import numpy as np
import pytest
from command import BASE, MINI, tables
from mini import cell, read

from bench import results
from bench.metrics import matrix
from bench.results import segments
from bench.runner import run_cell
from bench.runner.checkpoint import Pace

pytestmark = pytest.mark.slow


def rarely(stream, cache, every: int, **more):
    made = cell(stream, cache, "replay", "autoencoder", overrides={"autoencoder": {"epochs": 1}})
    return replace(made, spec=made.spec | {"eval_every": every} | more) if every != 1 or more else made


@pytest.fixture(scope="module")
def full(stream, cache, tmp_path_factory):
    root = tmp_path_factory.mktemp("full")
    run_cell(rarely(stream, cache, 1), root)
    return read(root, rarely(stream, cache, 1))


@pytest.mark.parametrize(("every", "whole"), [(0, [2]), (2, [1, 2])], ids=["final", "every second"])
def test_rows_hold_the_class_just_learned_or_are_those_of_a_full_run(every, whole, full, stream, cache, tmp_path):
    one = rarely(stream, cache, every)
    run_cell(one, tmp_path)
    record = read(tmp_path, one)
    assert record["status"] == "ok", record["reason"]
    tested = np.eye(3, dtype=bool)
    tested[whole] = True
    for name, R in full["matrices"].items():
        R = np.where(tested, np.array(R), np.nan)
        # other images share a batch, and a convolution may round by the size of its batch
        assert np.allclose(np.array(record["matrices"][name]), R, rtol=0, atol=1e-6, equal_nan=True), name
    for part in ("pooled", "cost"):
        assert len(record[part][{"pooled": "image_auroc", "cost": "train_s"}[part]]) == 3
    assert [t for t in range(3) if not np.isnan(record["pooled"]["image_auroc"][t])] == [0, *whole]
    assert record["cost"]["eval_images"] == [12 * (t + 1 if t in whole else 1) for t in range(3)]
    R, all_rows = (np.array(of["matrices"]["image_auroc"]) for of in (record, full))
    for same in (matrix.plasticity, matrix.bwt, matrix.forgetting_first_last):
        assert same(R, range(3)) == same(all_rows, range(3))
    assert np.isfinite(matrix.forgetting(R, range(3))) and matrix.forgetting(R, range(3)) <= matrix.forgetting(
        all_rows, range(3)
    )


@pytest.mark.parametrize("every", [1, 0])
def test_classes_yet_to_come_are_tested_where_asked_and_change_nothing_else(every, full, stream, cache, tmp_path):
    one = rarely(stream, cache, every, eval_ahead=True)
    run_cell(one, tmp_path)
    record = read(tmp_path, one)
    assert record["status"] == "ok", record["reason"]
    R, usual = (np.array(of["matrices"]["image_auroc"]) for of in (record, full))
    seen = np.tri(3, dtype=bool) if every else np.eye(3, dtype=bool)
    seen[2] = True
    assert np.array_equal(R[seen], usual[seen])
    assert np.isfinite(R[[0, 1], [1, 2]]).all() and np.isfinite(R[0, 2]) == bool(every)
    assert np.isfinite(matrix.fwt(R, range(3)))
    for of_all_rows in (matrix.forgetting_with_current, matrix.forgetting_relative_clipped):
        assert np.isfinite(of_all_rows(R, range(3))) == bool(every)
    assert record["pooled"]["image_auroc"][2] == full["pooled"]["image_auroc"][2]


def test_a_killed_run_goes_on_though_no_step_was_evaluated(full, stream, cache, tmp_path):
    def die(event):
        if event.get("step") == 3:
            raise KeyboardInterrupt

    one, events = rarely(stream, cache, 0), []
    with pytest.raises(KeyboardInterrupt):
        run_cell(one, tmp_path, die)
    run_cell(one, tmp_path, events.append)
    assert events[0]["start"] == 2
    assert read(tmp_path, one)["matrices"]["image_auroc"][-1] == full["matrices"]["image_auroc"][-1]


def test_another_evaluation_is_another_cell_and_says_what_it_lacks(bench, tmp_path):
    assert bench(*MINI)[0] == 0
    assert "1 of 1 cells would run" in bench(*MINI, "--eval-final", "--plan")[1]
    code, out = bench(*MINI, "--eval-final")
    assert code == 0 and "of what was just learned" in out, out
    assert "finished" in bench(*MINI, "--eval-every", "2", "--plan")[1], "of two steps, every second is the last"
    assert "0 of 1 cells would run" in bench(*MINI, "--eval-every", "1", "--plan")[1]
    paths = sorted(tmp_path.glob("results/custom/**/seed-0.json"))
    assert [results.read(path)["spec"].get("eval_every") for path in paths] == [None, 0]
    head, row = [], {}
    for line in tables(tmp_path).splitlines():  # the row stands in several tables, with other columns in each
        parts = [part.strip() for part in line.split("|")]
        if "method" in parts:
            head = parts
        elif "finetune (eval=final)" in parts:
            row |= dict(zip(head, parts, strict=True))
    assert "—" not in (row["forgetting"], row["plasticity"], row["image AUROC"])
    shown = bench("show", paths[1])[1]
    assert "after step 1" in shown and "after step 2" in shown
    assert bench("score", paths[1], "--scenario", "mini.yaml")[1].count("no number moved") == 1


@pytest.mark.parametrize("value", ["0", "-1", "x", "1.5"])
def test_what_is_no_number_of_steps_is_refused(value, bench):
    code, out = bench(*BASE, "--eval-every", value)
    assert code == 2 and f"{value!r} is no number of steps" in out


def test_a_slow_write_waits_until_it_is_a_small_share_of_the_time():
    clock = [0.0]
    pace, written = Pace(lambda: clock[0]), []

    def slow():
        written.append(clock[0])
        clock[0] += 1.0

    for _ in range(100):
        clock[0] += 2.0
        pace.write(slow)
    assert written[0] == 2.0 and len(written) > 5, "the first is not put off, nor is any for good"
    assert len(written) <= 1 + 0.05 * clock[0]


def test_a_gap_among_the_steps_ends_what_is_held(tmp_path):
    path = tmp_path / "seed-0.scores.npz"
    digests = [segments.write_segment(path, step, {}, {"pooled.x": np.array(step)}) for step in range(4)]
    segments.file_of(path, 2).unlink()
    assert segments.steps_held(path, digests, False) == segments.steps_held(path, digests, True) == 2
    assert segments.steps_held(path, digests[::-1], False) == 0, "they are of another run"
    assert [(t, row["pooled.x"].item()) for t, row in segments.rows(path, 2)] == [(0, 0), (1, 1)]
