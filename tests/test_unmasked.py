"""Classes whose defects nobody has outlined: pixel metrics are means over the others, and every page says so."""

import math
from dataclasses import replace

import numpy as np
import pytest
from cells import CLASSES, cell

from bench import results
from bench.analysis import pairing
from bench.analysis.figures import figures
from bench.analysis.race import difference
from bench.analysis.rows import Row
from bench.analysis.summary import interval_of
from bench.errors import BadInput
from bench.metrics import matrix
from bench.metrics.scoring import PIXEL_METRICS, Judged, Rows, Truth
from bench.render import leaderboard, report, show

NAN = math.nan
FIRST, SECOND, THIRD = CLASSES


def uneven(*rows, metric="aupro", unmasked=(FIRST,), **given):
    """A cell whose R of `metric` is `rows`."""
    made = cell(unmasked=unmasked, **given)
    made["matrices"][metric] = [list(row) for row in rows]
    return made


def test_a_run_names_them_and_measures_their_images(stream, arrays):
    of_first = arrays.labels.astype(bool) & (arrays.categories == 0)
    rows = Rows(stream, Truth(replace(arrays, unmasked=of_first), 3))
    size, rng = arrays.masks.shape[1:], np.random.default_rng(0)
    counts = [len(labels) for labels in rows.truth.labels]
    rows.enter(0, {c: Judged(rng.random(counts[c]), rng.random((counts[c], *size))) for c in (0, 1)})
    assert rows.record()["unmasked"] == [stream.classes[0]]
    for metric in PIXEL_METRICS:
        assert np.isnan(rows.matrices[metric][0, 0])
    assert np.isfinite([rows.matrices[name][0, 0] for name in ("image_auroc", "map_max_image_auroc")]).all()
    assert np.isfinite(rows.matrices["aupro"][0, 1])
    assert "unmasked" not in Rows(stream, Truth(arrays, 3)).record()


def test_pixel_means_are_over_the_classes_with_masks():
    found = figures(uneven((NAN, NAN, NAN), (NAN, 0.8, NAN), (NAN, 0.6, 0.9)))
    expected = {"final": 0.75, "plasticity": 0.85, "forgetting": 0.2, "bwt": -0.2, "step_average": (0.8 + 0.75) / 2}
    assert {name: found[f"{name}_aupro"] for name in expected} == pytest.approx(expected)
    assert found["final_image_auroc"] == pytest.approx(0.9)


@pytest.mark.parametrize(
    "rows",
    [
        ((NAN, NAN, NAN), (NAN, 0.8, NAN), (NAN, NAN, 0.9)),  # a class with masks that was not tested
        ((NAN, NAN, NAN), (NAN, NAN, NAN), (NAN, NAN, NAN)),  # a system without maps
    ],
)
def test_what_was_not_tested_has_no_mean(rows):
    found = figures(uneven(*rows))
    assert all(np.isnan(found[f"{name}_aupro"]) for name in ("final", "forgetting", "step_average"))
    assert np.isnan(figures(uneven(*rows, unmasked=()))["final_aupro"])


def test_an_image_metric_that_was_not_tested_has_no_mean_either():
    rows = ((0.9, NAN, NAN), (0.9, 0.8, NAN), (NAN, 0.6, 0.9))
    assert np.isnan(figures(uneven(*rows, metric="image_auroc"))["final_image_auroc"])


def test_without_any_mask_there_is_no_pixel_mean():
    found = figures(cell(unmasked=CLASSES))
    assert np.isnan(found["final_aupro"]) and np.isnan(found["forgetting_aupro"])
    assert found["final_image_auroc"] == pytest.approx(0.9)


def test_a_step_before_the_first_class_counts_in_no_average():
    assert matrix.step_average([[NAN], [0.8], [0.6]], [1]) == pytest.approx(0.7)
    assert np.isnan(matrix.step_average([[NAN], [NAN], [0.6]], [1]))


def test_intervals_and_comparisons_are_over_them_too():
    made = [
        uneven((NAN, NAN, NAN), (NAN, 0.8, NAN), (NAN, 0.6 + shift, 0.9 + shift), method=method)
        for method, shift in (("good", 0.05), ("poor", 0))
    ]
    assert interval_of(made[:1], "aupro").mean == pytest.approx(0.8)
    (found,) = pairing.pair("good+patchcore", "poor+patchcore", made, "aupro")
    assert found.classes == sorted((SECOND, THIRD)) and found.crossed().mean == pytest.approx(0.05)
    rows = [Row(one["spec"]["method"], (one,)) for one in made]
    assert difference(*rows, "aupro").mean == pytest.approx(0.05)
    assert difference(*rows).mean == pytest.approx(0)


def test_every_page_says_over_which(tmp_path):
    root = tmp_path / "results"
    path = results.write_cell(root, cell(unmasked=[FIRST]))
    pages = "\n".join(text for file, text in leaderboard.render(root).items() if file.suffix == ".md")
    told = "pixel metrics over 2 of 3 classes: those with masks"
    assert told in pages
    report.write_report(root, tmp_path / "site")
    assert all(told in file.read_text() for file in [*tmp_path.glob("site/systems/**/*.html")])
    text = show.show(str(path), root)
    assert "aupro (over 2 of 3 classes: those with masks)" in text and "image_auroc\n" in text
    after_last = next(line for line in text.partition("aupro (over")[2].splitlines() if "after step 3" in line)
    assert after_last.split()[-4:] == ["—", "0.900", "0.900", "0.900"]


def test_a_cell_names_only_its_own_classes(tmp_path):
    with pytest.raises(BadInput, match="no class 'zipper', which it calls unmasked"):
        results.write_cell(tmp_path, cell() | {"unmasked": ["zipper"]})
