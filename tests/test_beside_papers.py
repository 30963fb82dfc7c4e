"""Printed figures beside measured ones: the verdict on each, and why there is none."""

import pytest
from cells import cell
from test_leaderboard import PAPER, page, row_of

from bench.analysis.groups import sections
from bench.analysis.summary import stat
from bench.published import load_published
from bench.published.data_sets import TEST_IMAGES
from bench.render.leaderboard.compare import compare_with_published


def on_mvtec(*scores, images=1725, seeds=3, **given):
    """Cells of all of MVTec AD, one per seed."""
    made = [cell(*scores, seed=seed, **(PAPER | given)) for seed in range(seeds)]
    for one in made:
        one["cost"]["eval_images"][-1] = float(images)
    return made


def test_verdicts(tmp_path):
    finetune = on_mvtec(0.7, 0.9, method="finetune", metrics={"pixel_ap": 0.2})
    text = page(tmp_path, *on_mvtec(0.975, method="joint"), *finetune)
    assert "Published beside measured" in text and "ADer" in text and "Joint PatchCore(R)" not in text
    row = row_of(text, "joint + patchcore")
    assert row[1:6] == ["Joint PatchCore", "image_auroc", "0.975 ± 0.000", "0.978", "within 0.02, at 224 px there"]
    assert row[-2:] == ["CADIC arXiv:2511.08634v1 Tab I-IV", "copied"]
    row = row_of(text, "finetune + patchcore")
    assert row[5:9] == ["off by +0.098, at 224 px there", "0.383", "0.200 ± 0.000", "forgetting"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"weights": {"kind": "procedural", "source": "x", "sha256": "y"}}, "procedural weights instead of ImageNet's"),
        ({"size": "tiny"}, "size tiny"),
        ({"order": "reversed"}, "class order reversed"),
        ({"variant": "coreset=0.5"}, "options coreset=0.5"),
        ({"seeds": 2}, "2 of at least 3 seeds"),
        ({"images": 1700}, "1,700 test images instead of 1,725"),
        (
            {
                "classes": [*list(TEST_IMAGES["mvtec"])[:-1], "zip"],
                "steps": [[n] for n in [*TEST_IMAGES["mvtec"]][:-1]] + [["zip"]],
            },
            "a class 'zip', which the data set has not",
        ),
    ],
)
def test_what_cannot_be_compared_with_papers_says_why(change, why):
    (section,) = sections(on_mvtec(0.602, method="finetune", **change))
    pairs = [
        pair for pair in compare_with_published(section, load_published()) if pair.published.metric == "image_auroc"
    ]
    assert [pair.verdict for pair in pairs] == [f"not comparable: {why}"]


def test_a_gap_that_seeds_may_explain_is_told():
    made = [on_mvtec(value, method="finetune")[seed] for seed, value in enumerate((0.60, 0.70, 0.80))]
    pairs = compare_with_published(sections(made)[0], load_published())
    (found,) = [pair for pair in pairs if pair.published.metric == "image_auroc"]
    half = stat([0.6, 0.7, 0.8]).half
    assert found.verdict == f"off by +0.098, inside the ± {half:.3f} of 3 seeds, at 224 px there"


def test_the_overview_counts_the_verdicts(tmp_path):
    made = on_mvtec(0.975, method="joint") + on_mvtec(0.7, method="finetune")
    verdicts = [pair.verdict for pair in compare_with_published(sections(made)[0], load_published())]
    within = sum(verdict.startswith("within") for verdict in verdicts)
    assert 0 < within < len(verdicts)
    told = row_of(page(tmp_path, *made), "[mvtec/1x15@1](results/tables/mvtec-1x15-1.md)", 1)[-1]
    assert told == f"{within} within 0.02, {len(verdicts) - within} off, 0 not comparable"


def test_other_data_has_no_published_numbers(tmp_path):
    text = page(tmp_path, cell(method="joint", scenario="factory7/1x7"))
    assert "No published number fits" in text and "python -m bench published" in text
    assert row_of(text, "[factory7/1x7@1](results/tables/factory7-1x7-1.md)", 1)[-1] == "—"


def test_joint_numbers_are_for_all_classes():
    few = PAPER | {
        "scenario": "mvtec/clad-10",
        "classes": ["bottle", "pill", "wood"],
        "steps": [["bottle"], ["pill"], ["wood"]],
    }
    (section,) = sections([cell(method="joint", **few)])
    assert {pair.verdict for pair in compare_with_published(section, load_published())} == {
        "not comparable: 3 classes instead of 15"
    }
