"""Cells run with --feature-cache: the same scores to the last bit, and no times that are not a method's own."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
from cells import cell as made
from mini import cell, read

from bench import results
from bench.analysis.figures import figures
from bench.results import cell_path, stored
from bench.runner import run_cell
from bench.runner.feature_cache import FOLDER

pytestmark = pytest.mark.slow

PLENTY = 1.0  # GB


def same(one, other) -> bool:
    """Whether two runs gave the same scores."""
    return all(np.array_equal(scores, other.scores[place]) for place, scores in one.scores.items())


def with_cache(one, folder, limit=PLENTY):
    """The cell with features kept, in a folder of their own."""
    return replace(one, request=replace(one.request, cache=folder, feature_cache=limit))


CELLS = [
    (method, detector, seed) for method, detector in (("finetune", "padim"), ("replay", "stfpm")) for seed in (0, 1)
]


@pytest.fixture(scope="module")
def runs(stream, cache, arrays, tmp_path_factory):
    """(cell, record and scores without a cache, record and scores with one that all share) of two methods and seeds."""
    root, folder = tmp_path_factory.mktemp("runs"), tmp_path_factory.mktemp("kept")
    found = []
    for method, detector, seed in CELLS:
        one = cell(stream, cache, method, detector, seed=seed)
        answers = []
        for place, asked in (("without", one), ("with", with_cache(one, folder))):
            run_cell(asked, root / place)
            answers += [
                read(root / place, one),
                stored.read_stored(stored.scores_path(cell_path(root / place, one.spec))),
            ]
        found.append((one, *answers))
    return found, folder


def test_scores_are_the_same_to_the_last_bit_with_and_without(runs):
    for one, record, scores, record_with, scores_with in runs[0]:
        assert record["status"] == record_with["status"] == "ok", record_with["reason"]
        assert scores.scores and same(scores, scores_with), one.name
        for part in ("matrices", "pooled", "threshold", "key"):
            assert json.dumps(record[part]) == json.dumps(record_with[part]), (one.name, part)


def test_a_cell_tells_how_many_features_it_found_and_computed(runs):
    first, second = runs[0][0][3]["cost"], runs[0][1][3]["cost"]
    assert first["feature_misses"][0] > 0 and len(first["feature_hits"]) == 3
    assert second["feature_misses"] == [0, 0, 0] and second["feature_hits"][0] > 0, "another seed, the same images"
    assert "feature_hits" not in runs[0][0][1]["cost"]


def test_a_second_method_computes_nothing(runs, stream, cache, tmp_path):
    again = with_cache(cell(stream, cache, "cumulative", "padim"), runs[1])
    run_cell(again, tmp_path)
    cost = read(tmp_path, again)["cost"]
    assert cost["feature_misses"] == [0, 0, 0] and cost["feature_hits"][0] > 0


def test_figures_leave_out_the_times_of_cells_with_kept_features():
    plain = made()
    assert figures(plain)["train_s"] == 6.0
    for name in ("feature_hits", "feature_misses"):  # what was computed was also written
        warm = copy.deepcopy(plain)
        warm["cost"] |= {"feature_hits": [0, 0, 0], "feature_misses": [0, 0, 0]} | {name: [0, 12, 0]}
        found = figures(warm)
        times = (
            "train_s",
            "train_cpu_s",
            "eval_s",
            "extra_s",
            "evaluation_share",
            "train_images_per_s",
            "cpu_energy_j",
        )
        assert all(np.isnan(found[time]) for time in times)
        assert found["ms_per_image_1"] == 8.0, "that one is measured with the cache off"
    unasked = plain | {"cost": plain["cost"] | {"feature_hits": [0, 0, 0], "feature_misses": [0, 0, 0]}}
    assert figures(unasked)["train_s"] == 6.0, "a detector without a frozen network takes its own time"


def test_the_command_keeps_features_and_shows_them_instead_of_times(bench, tmp_path):
    asked = ("run", "--methods", "finetune", "--detectors", "padim", "--scenario", "mini.yaml", "--device", "cpu")
    code, out = bench(*asked, "--feature-cache", "0.5")
    assert code == 0, out
    assert list((tmp_path / ".cache" / FOLDER).rglob("*.safetensors"))
    record = next((tmp_path / "results").rglob("seed-0.json"))
    shown = bench("show", record)[1]
    assert "feature_hits" in shown and "feature_misses" in shown
    assert np.isnan(figures(results.read(record))["train_cpu_s"])


def test_a_run_that_goes_on_with_a_cache_counts_from_there(stream, cache, arrays, tmp_path):
    one = cell(stream, cache, "finetune", "padim")
    run_cell(one, tmp_path / "results", at_most=1)
    run_cell(with_cache(one, tmp_path / "kept"), tmp_path / "results", at_most=1)
    run_cell(one, tmp_path / "results")
    cost = read(tmp_path / "results", one)["cost"]
    assert np.isnan(cost["feature_misses"][0]) and cost["feature_misses"][1] > 0 == cost["feature_misses"][2]


def test_the_command_takes_gigabytes_and_refuses_what_are_none(bench):
    for wrong in ("-1", "much", "inf", "nan"):
        assert bench("run", "--methods", "finetune", "--feature-cache", wrong)[0] == 2
