"""The Python API: what the command line does, as typed functions."""

import csv
import importlib.util
import typing

import numpy as np
import pytest
from cells import cell
from command import ROOT
from command import bench as here  # noqa: F401 - a fixture

import bench
from bench import results


@pytest.fixture
def folder(tmp_path):
    for method, final in (("replay", 0.9), ("finetune", 0.6)):
        for seed in range(2):
            results.write_cell(tmp_path / "results", cell(final + 0.01 * seed, method=method, seed=seed))
    results.write_cell(tmp_path / "results", cell(method="ewc", status="failed", reason="ValueError: odd"))
    return tmp_path / "results"


def test_results_are_a_table_with_the_figures_of_the_csv(folder):
    table = bench.load_results(folder)
    _, written, *_ = bench.leaderboard(folder)
    lines = list(csv.DictReader(written.read_text().splitlines()))
    assert list(table) == list(lines[0]) and len(table) == len(lines) == 5
    means = table.groupby("method").final_image_auroc.mean()
    assert means["replay"] == pytest.approx(0.905) and np.isnan(means["ewc"])
    assert table.final_image_auroc.dtype == float


def test_two_systems_are_compared_and_methods_ranked(folder):
    (found,) = bench.compare("replay+patchcore", "finetune+patchcore", folder)
    assert found.crossed().mean == pytest.approx(0.3)
    with pytest.raises(bench.BadInput, match="no metric 'auroc'"):
        bench.compare("replay+patchcore", "finetune+patchcore", folder, metric="auroc")
    with pytest.raises(bench.BadInput):
        bench.rank((), folder)


def test_a_name_for_a_tuple_of_names_is_told():
    with pytest.raises(bench.BadInput, match=r"methods='finetune' is no tuple: write methods=\('finetune',\)"):
        bench.Request(methods="finetune")


@pytest.mark.parametrize("function", ["leaderboard", "load_results", "report"])
def test_a_misspelt_folder_is_told(function, tmp_path):
    with pytest.raises(bench.BadInput, match="no folder"):
        getattr(bench, function)(tmp_path / "resluts")


@pytest.mark.parametrize("name", bench.__all__)
def test_every_function_says_its_types(name):
    thing = getattr(bench, name)
    if not isinstance(thing, type):
        hints = thing.__annotations__
        assert "return" in hints and len(hints) == len(typing.get_type_hints(thing, localns={"DataFrame": object}))
        assert "Raises:" in thing.__doc__


@pytest.mark.slow
def test_the_tour_runs(here, tmp_path, capsys):  # noqa: F811
    spec = importlib.util.spec_from_file_location("tour", ROOT / "docs" / "tour.py")
    tour = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tour)
    tour.main(tmp_path / "tour")
    told = capsys.readouterr().out
    assert told.count("autoencoder seed 0: run") == 2 and "final_image_auroc" in told
    assert (tmp_path / "tour" / "leaderboard.md").is_file() and (tmp_path / "tour" / "report" / "index.html").is_file()
