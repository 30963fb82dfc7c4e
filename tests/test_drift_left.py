"""How much of fine-tuning's drift a method leaves: by hand, and only beside the fine-tuning that belongs to it."""

import math

import pytest
from cells import cell

from bench import results
from bench.analysis import drift_left
from bench.analysis.groups import sections
from bench.render import leaderboard


def moved(method: str, *shifts: float, **spec):
    """A cell whose old classes' thresholds ended `shifts` away from where they began."""
    made = cell(method=method, holdout=0.2, **spec)
    made["matrices"]["class_threshold_shift"][-1] = [*shifts, 0.0]
    return made


def test_it_is_the_mean_distance_over_fine_tunings():
    finetuned = moved("finetune", 30.0, -10.0)
    assert drift_left.drift_left_figures(moved("ewc", -6.0, 4.0), [finetuned]) == {"drift_left": pytest.approx(0.25)}
    assert drift_left.drift_left_figures(finetuned, [finetuned]) == {"drift_left": 1.0}


@pytest.mark.parametrize("other", [{"seed": 1}, {"detector_config": {"coreset": 0.2}}, {"order": "reversed"}])
def test_fine_tuning_of_something_else_is_no_measure(other):
    assert math.isnan(
        drift_left.drift_left_figures(moved("ewc", 1.0, 1.0), [moved("finetune", 2.0, 2.0, **other)])["drift_left"]
    )


def test_without_held_out_images_or_drift_there_is_none():
    assert math.isnan(drift_left.drift_left_figures(cell(method="ewc"), [cell(method="finetune")])["drift_left"])
    assert math.isnan(
        drift_left.drift_left_figures(moved("ewc", 1.0, 1.0), [moved("finetune", 0.0, 0.0)])["drift_left"]
    )


def test_a_strength_that_holds_nothing_or_everything_is_marked_and_told(tmp_path):
    strong = {"method_config": {"strength": 1.0}}
    made = [moved("finetune", 4.0, 4.0), moved("lwf", 4.0, 3.0), moved("replay", 4.0, 4.0)]
    made += [moved(name, *shifts, **strong) for name, shifts in
             {"ewc": (2.0, 1.0), "si": (4.0, 3.0), "mas": (0.0, 0.1), "der": (5.0, 5.0)}.items()]  # fmt: skip
    (section,) = sections(made)
    assert {row.spec["method"] for row in section.rows if row.outside_band} == {"si", "mas", "der"}
    for one in made:
        results.write_cell(tmp_path, one)
    text = "\n".join(text for path, text in leaderboard.render(tmp_path).items() if path.suffix == ".md")
    assert "| 0.875△ |" in text and "| 0.375 |" in text and text.count("△ |") == 3
    assert "- si on patchcore: 0.88 at strength 1, hardly anything is held; old classes lose 0.000 image AUROC" in text
    assert "- mas on patchcore: 0.01 at strength 1, hardly anything moves; classes just learned reach 0.900" in text
    assert "- der on patchcore: 1.25" in text and "- ewc on" not in text and "- lwf on" not in text


def test_a_page_shows_it(tmp_path):
    made = [moved("finetune", 4.0, 4.0), moved("ewc", 2.0, 1.0)]
    (section,) = sections(made)
    assert {row.spec["method"]: row.stat("drift_left").mean for row in section.rows} == {"finetune": 1.0, "ewc": 0.375}
    for one in made:
        results.write_cell(tmp_path, one)
    text = "\n".join(text for path, text in leaderboard.render(tmp_path).items() if path.suffix == ".md")
    assert "| drift left |" in text and "| 0.375 |" in text
