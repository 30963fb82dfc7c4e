"""A new metric, or a new figure of a cell, is one entry: whatever shows such numbers has it without another edit."""

import csv

import numpy as np
import pytest
from cells import cell
from command import bench  # noqa: F401 - a fixture
from sklearn.metrics import average_precision_score

from bench import results
from bench.analysis.figures import FIGURES, Figure
from bench.metrics.scoring import Judged, Rows, Truth
from bench.schema.metric import METRICS, Metric

pytestmark = pytest.mark.slow


def ap_of_small_defects(scores, maps, labels, regions) -> float:
    """Average precision of the pixels of the smaller third of the defects against all normal pixels."""
    anomalous = np.zeros(maps.size, bool)
    anomalous[regions.pixel] = True
    small = regions.pixel[regions.third[regions.region] == 0]
    told = np.concatenate([maps.ravel()[~anomalous], maps.ravel()[small]])
    return average_precision_score(np.arange(len(told)) >= (~anomalous).sum(), told)


@pytest.fixture
def entry(monkeypatch):
    metric = Metric("pixel_ap_small", "pixel AP, small", needs_masks=True, compute=ap_of_small_defects)
    monkeypatch.setitem(METRICS, metric.id, metric)


def measured(stream, arrays, method: str, quality: float) -> dict:
    """The record of a method whose maps are the masks in noise."""
    truth, rng = Truth(arrays, len(stream.classes)), np.random.default_rng(0)
    rows = Rows(stream, truth)
    for step in range(len(stream.steps)):
        said = {}
        for column in range(step + 1):
            masks = np.asarray(arrays.masks[truth.rows[column]]) > 0
            maps = (quality * masks + rng.random(masks.shape)).astype(np.float32)
            said[column] = Judged(maps.max((1, 2)), maps)
        rows.enter(step, said)
    made = cell(method=method, classes=list(stream.classes), steps=[list(step) for step in stream.steps])
    return made | rows.record()


def test_one_entry_is_seen_everywhere(entry, bench, stream, arrays, tmp_path):  # noqa: F811
    root = tmp_path / "results"
    for method, quality in (("replay", 0.8), ("finetune", 0.2)):
        path = results.write_cell(root, measured(stream, arrays, method, quality))
    found = results.read(path)["matrices"]["pixel_ap_small"]
    assert np.isfinite(found[-1]).all() and np.isnan(found[0][1:]).all(), "the cell"

    bench("leaderboard")
    with (root / "leaderboard.csv").open() as file:
        lines = {line["method"]: float(line["final_pixel_ap_small"]) for line in csv.DictReader(file)}
    assert lines["finetune"] == pytest.approx(np.mean(found[-1])), "the CSV"
    assert lines["replay"] > lines["finetune"]
    (page,) = (root / "tables").glob("*.md")
    assert "| pixel AP, small |" in page.read_text() and f"{lines['replay']:.3f}" in page.read_text(), "the table"

    code, out = bench("compare", "replay+patchcore", "finetune+patchcore", "--metric", "pixel_ap_small")
    assert code == 0 and f"{lines['replay'] - lines['finetune']:+.3f}" in out, "compare"
    assert "pixel_ap_small" in bench("show", "toy/1x3/replay+patchcore/seed-0")[1], "show"
    bench("report")
    pages = [file.read_text() for file in (tmp_path / "out" / "report").rglob("*.html")]
    assert any("pixel AP, small" in text and f"{lines['replay']:.3f}" in text for text in pages), "the report"


def test_one_figure_is_a_column_everywhere(bench, tmp_path, monkeypatch):  # noqa: F811
    figure = Figure(
        "kb_per_image", "KB per image", lambda _, cost: cost["carried_bytes"][-1] / sum(cost["train_images"]) / 1e3,
        table="cost", report=True, meaning="what is carried, over the images that the loss saw",
    )  # fmt: skip
    monkeypatch.setitem(FIGURES, figure.id, figure)
    results.write_cell(tmp_path / "results", cell())
    bench("leaderboard")
    (line,) = csv.DictReader((tmp_path / "results" / "leaderboard.csv").read_text().splitlines())
    assert float(line["kb_per_image"]) == pytest.approx(10), "the CSV"
    (page,) = (tmp_path / "results" / "tables").glob("*.md")
    assert "| KB per image |" in page.read_text() and "| 10.0 |" in page.read_text(), "the table of costs"
    assert "GPU use" not in page.read_text(), "a column that tells nothing is left out"
    assert figure.meaning in (tmp_path / "leaderboard.md").read_text(), "the legend"
    assert "kb_per_image" in bench("show", "toy/1x3/replay+patchcore/seed-0")[1], "show"
    bench("report")
    pages = [file.read_text() for file in (tmp_path / "out" / "report").rglob("*.html")]
    assert any("KB per image" in text for text in pages), "the report"
