"""Every definition on a matrix worked by hand, and what each does where cells are missing."""

import math

import numpy as np
import pytest

from bench.metrics import definitions, matrix

NAN = float("nan")
# class 0 improves, then drops; class 1 ends above where it was learned, below its score before that; class 2 is new
R = np.array([[0.80, 0.80, 0.40], [0.90, 0.70, 0.45], [0.60, 0.75, 0.90]])
LEARNED_AT = (0, 1, 2)
WORKED = {
    "final_average": (0.60 + 0.75 + 0.90) / 3,
    "plasticity": (0.80 + 0.70 + 0.90) / 3,
    "step_average": (0.80 + (0.90 + 0.70) / 2 + (0.60 + 0.75 + 0.90) / 3) / 3,
    "bwt": ((0.60 - 0.80) + (0.75 - 0.70)) / 2,
    "fwt": (0.80 + 0.45) / 2,
    "forgetting": ((0.90 - 0.60) + (0.70 - 0.75)) / 2,
    "forgetting_clipped": ((0.90 - 0.60) + (0.75 - 0.75)) / 2,
    "forgetting_first_last": ((0.80 - 0.60) + (0.70 - 0.75)) / 2,
    "forgetting_with_current": ((0.90 - 0.60) + (0.80 - 0.75) + (0.45 - 0.90)) / 3,
    "forgetting_per_step": ((0.80 - 0.60) / 2 + (0.70 - 0.75) / 1) / 2,
    "forgetting_relative": ((1 - 0.60 / 0.90) + (1 - 0.75 / 0.70)) / 2,
    "forgetting_relative_clipped": ((1 - 0.60 / 0.90) + (1 - 0.75 / 0.80)) / 2,
    "forgetting_relative_off_by_one": ((0.80 - 0.60) / 0.80) / 2,
}
NEEDS_OTHERS_EARLY = {name for name, row in definitions.DEFINITIONS.items() if row.needs == definitions.EARLY}
OF_FINAL_ROW = {"final_average", "plasticity", "step_average"}


def value(name, R, learned_at):
    return definitions.DEFINITIONS[name].function(R, learned_at)


def test_every_definition_is_worked_by_hand():
    assert set(WORKED) == set(definitions.DEFINITIONS)


@pytest.mark.parametrize("name", WORKED)
def test_worked_value(name):
    result = value(name, R, LEARNED_AT)
    assert type(result) is float
    assert result == pytest.approx(WORKED[name], abs=1e-12)


@pytest.mark.parametrize("name", WORKED)
def test_rows_before_a_class_is_learned_are_needed_only_where_said(name):
    seen = np.where(np.tri(3, dtype=bool), R, NAN)
    result = value(name, seen, LEARNED_AT)
    assert math.isnan(result) if name in NEEDS_OTHERS_EARLY else result == pytest.approx(WORKED[name], abs=1e-12)


@pytest.mark.parametrize("name", WORKED)
def test_one_step_has_nothing_to_forget(name):
    result = value(name, [[0.7, 0.9]], (0, 0))
    assert result == pytest.approx(0.8) if name in OF_FINAL_ROW else math.isnan(result)


@pytest.mark.parametrize("name", sorted(set(WORKED) - {"plasticity", "fwt"}))
def test_a_missing_final_cell_leaves_no_mean(name):
    gap = R.copy()
    gap[2, 0] = NAN
    assert math.isnan(value(name, gap, LEARNED_AT))


@pytest.mark.parametrize("name", ["plasticity", "bwt", "forgetting", "forgetting_clipped", "forgetting_relative"])
def test_a_missing_cell_when_learned_leaves_no_mean(name):
    gap = R.copy()
    gap[0, 0] = NAN
    assert math.isnan(value(name, gap, LEARNED_AT))


@pytest.mark.parametrize("name", sorted(n for n in WORKED if n.startswith(("forgetting", "bwt"))))
def test_a_constant_matrix_forgets_nothing(name):
    assert value(name, np.full((4, 4), 0.6), range(4)) == 0


def test_improving_classes_have_negative_forgetting():
    rising = np.linspace(0.1, 0.9, 12).reshape(4, 3)
    assert value("forgetting", rising, (0, 1, 2)) < 0
    assert value("forgetting_relative", rising, (0, 1, 2)) < 0
    assert value("forgetting_clipped", rising, (0, 1, 2)) == 0
    assert value("forgetting_relative_clipped", rising, (0, 1, 2)) == 0


def test_classes_that_arrive_together_each_count_once():
    grouped = np.array([[0.9, 0.7, 0.8, 0.2], [0.5, 0.7, 0.6, 0.8]])
    learned_at = (0, 0, 0, 1)
    assert value("forgetting", grouped, learned_at) == pytest.approx((0.4 + 0.0 + 0.2) / 3)
    assert value("plasticity", grouped, learned_at) == pytest.approx((0.9 + 0.7 + 0.8 + 0.8) / 4)
    assert value("fwt", grouped, learned_at) == pytest.approx(0.2)


def test_the_average_over_steps_counts_each_step_once_and_only_classes_seen():
    grouped = np.array([[0.9, 0.7, 0.2], [0.5, 0.7, 0.6]])
    assert value("step_average", grouped, (0, 0, 1)) == pytest.approx((0.8 + 0.6) / 2)
    gap = np.where(np.tri(3, dtype=bool), R, NAN)
    gap[1, 0] = NAN  # a step that was not evaluated on a class seen
    assert math.isnan(value("step_average", gap, LEARNED_AT))


def test_fwt_subtracts_what_an_untrained_model_scores():
    assert matrix.fwt(R, LEARNED_AT, 0.5) == pytest.approx(0.125)
    assert matrix.fwt(R, LEARNED_AT, np.array([0.1, 0.6, 0.25])) == pytest.approx((0.2 + 0.2) / 2)


def test_off_by_one_counts_eight_of_nine_and_divides_by_nine():
    ten = np.full((10, 10), 0.8)
    ten[9, :9] = 0.4
    assert value("forgetting_relative_off_by_one", ten, range(10)) == pytest.approx(8 / 9 * 0.5)
    assert value("forgetting_relative", ten, range(10)) == pytest.approx(0.5)


def test_a_class_that_never_scored_loses_nothing_relative():
    zero = np.array([[0.0, 0.5], [0.0, 0.5]])
    assert value("forgetting_relative", zero, (0, 1)) == 0
    assert value("forgetting_relative_clipped", zero, (0, 1)) == 0


def test_definitions_of_two_runs():
    functions = definitions.DEFINITIONS_OF_TWO_RUNS
    assert functions["bank_size_difference"].function([0.9, 0.8], [0.7, 0.8]) == pytest.approx(0.1)
    assert functions["joint_minus_replay"].function([0.95, 0.85], [0.9, 0.7]) == pytest.approx(0.1)
    assert math.isnan(functions["joint_minus_replay"].function([0.9, NAN], [0.9, 0.7]))


def test_every_definition_names_its_formula_and_source():
    for name, definition in definitions.ALL.items():
        assert definition.function.__name__ == name
        assert "mean" in definition.formula or "sum" in definition.formula
        assert len(definition.source) > 10
    numbered = [int(row.source[11]) for row in definitions.ALL.values() if row.source.startswith("definition ")]
    assert sorted(set(numbered)) == list(range(1, 10))  # the nine in use under the one name


def test_what_a_definition_needs_is_what_it_lacks_in_a_usual_matrix():
    found = definitions.values(np.where(np.tri(3, dtype=bool), R, NAN), LEARNED_AT)
    assert {name for name, number in found.items() if math.isnan(number)} == {
        name for name, definition in definitions.ALL.items() if definition.needs
    }


@pytest.mark.parametrize(
    ("R", "learned_at"),
    [([[0.5, 0.5]], (0,)), ([0.5, 0.5], (0, 0)), ([[0.5]], (1,)), ([[0.5]], (-1,)), (np.zeros((0, 0)), ())],
)
def test_shapes_and_steps_that_do_not_fit_are_refused(R, learned_at):
    with pytest.raises(ValueError, match="R has"):
        matrix.final_average(R, learned_at)
