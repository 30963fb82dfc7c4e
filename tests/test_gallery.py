"""Test images in the report: which are chosen, that their figures are those stored, what is said without them."""

from urllib.parse import unquote

import numpy as np
import pytest
from bs4 import BeautifulSoup
from command import MINI
from PIL import Image

from bench import data, results
from bench.metrics.ranking import image_metrics
from bench.render.report.gallery import GAP, SIDE, _chosen, _standing
from bench.results import stored
from bench.schema import stream as streams

pytestmark = pytest.mark.slow


def test_the_standing_of_the_anomalous_images_averages_to_the_auroc():
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(0, 9, 40).astype(float), rng.integers(0, 2, 40)  # with ties
    found = _standing(scores, labels)[labels > 0].mean()
    assert found == pytest.approx(image_metrics(scores, labels)["image_auroc"])


def test_best_and_worst_are_of_the_end_and_the_most_forgotten_fell_furthest():
    standing = np.array([[0.0, 0.9, 0.8, 0.3], [0.0, 0.2, 0.9, 0.1]])
    assert _chosen(standing, np.array([1, 2, 3])) == [("best judged", 2), ("worst judged", 3), ("most forgotten", 1)]
    assert len(_chosen(standing[-1:], np.array([1, 2]))) == 2  # one step: nothing could be forgotten
    assert _chosen(standing, np.array([], int)) == []


@pytest.fixture
def finished(bench, tmp_path):
    code, out = bench(*MINI, "--save-maps", "--results", tmp_path / "results")
    assert code == 0, out
    return next((tmp_path / "results").rglob("seed-0.json"))


def page(tmp_path):
    (path,) = (tmp_path / "site" / "systems").rglob("*.html")
    return path, BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def draw(bench, tmp_path, *more):
    return bench("report", "--gallery", "--results", tmp_path / "results", "--out", tmp_path / "site", *more)


def test_a_run_with_maps_has_its_test_images(bench, finished, tmp_path):
    code, out = draw(bench, tmp_path, "--scenario", "mini.yaml")
    assert code == 0, out
    path, dom = page(tmp_path)
    assert [head.text for head in dom.select(".gallery h3")] == ["gear", "wood"]
    held, cell = stored.read_stored(stored.scores_path(finished)), results.read(finished)
    arrays, _ = data.load_arrays(streams.load_stream("mini.yaml"), None, 64, tmp_path / ".cache")
    for figure in dom.select("figure"):
        name, place = figure.img["alt"].split(",")[0], int(figure.img["alt"].split("image ")[1].split(",")[0])
        column = cell["spec"]["classes"].index(name)
        good = arrays.labels[data.rows_of(arrays, [column], train=False)] == 0
        steps = range(column, 2)
        with Image.open(path.parent / unquote(figure.img["src"])) as picture:
            assert picture.size == ((2 + len(steps)) * (SIDE + GAP) - GAP, SIDE)
        for span, step in zip(figure.select("span"), steps, strict=True):
            scores = held.scores[step, name]
            normal, own = scores[good], scores[place]
            share = ((normal < own).sum() + (normal == own).sum() / 2) / len(normal)
            assert span.text == f"{100 * share:.1f} % after step {step + 1}"


def test_without_the_data_the_page_says_so_and_stands(bench, finished, tmp_path):
    code, out = draw(bench, tmp_path)
    assert code == 0, out
    note = page(tmp_path)[1].select_one(".gallery .warning").text
    assert note.startswith("No pictures: ") and "mini" in note


def test_without_maps_there_is_no_gallery(bench, tmp_path):
    assert bench(*MINI, "--results", tmp_path / "results")[0] == 0
    assert draw(bench, tmp_path, "--scenario", "mini.yaml")[0] == 0
    assert not page(tmp_path)[1].select(".gallery")
