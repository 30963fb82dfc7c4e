"""Intervals, paired tests and critical differences: SciPy's own figures on fixtures, and honest words about them."""

import itertools

import numpy as np
import pytest
from cells import CLASSES, cell
from scipy import stats

from bench import cli, results
from bench.analysis import paired, pairing
from bench.analysis import ranks as ranking
from bench.errors import BadInput
from bench.metrics.statistics import (
    auroc_error,
    cliques,
    crossed_mean,
    holm,
    interval,
    rank_scores,
    signed_rank,
    student_p,
    student_quantile,
)

# Demšar, JMLR 7 (2006), table 6: AUC of four decision trees on 14 data sets. Where two are printed alike but ranked
# apart there, the last digit is added.
DEMSAR = np.array(
    [
        [0.763, 0.768, 0.771, 0.798],
        [0.599, 0.591, 0.590, 0.569],
        [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657],
        [0.882, 0.888, 0.886, 0.898],
        [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685],
        [0.583, 0.583, 0.563, 0.625],
        [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000],
        [0.940, 0.962, 0.965, 0.962],
        [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.97501, 0.975],
        [0.957, 0.978, 0.946, 0.970],
    ]
)


def scored(method, scores, **given):
    """A cell whose classes end with `scores`, in the order of its stream."""
    made = cell(method=method, **given)
    made["matrices"]["image_auroc"][-1] = list(scores)
    return made


def normal(shape, seed=0, mean=0.7, spread=0.1):
    return np.random.default_rng(seed).normal(mean, spread, shape)


def test_ranks_and_critical_difference_of_demsars_example():
    found = rank_scores(DEMSAR)
    assert found.ranks == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=5e-4)
    assert found.critical == pytest.approx(1.25, abs=5e-3) and found.blocks == 14
    statistic, p = stats.friedmanchisquare(*DEMSAR.T)
    assert (found.statistic, found.p) == pytest.approx((statistic, p))
    assert found.cliques == [(3, 1, 2, 0)]  # as there: Nemenyi's test finds nothing at 0.05


@pytest.mark.parametrize(("treatments", "q"), [(3, 2.343), (4, 2.569), (5, 2.728), (7, 2.949), (10, 3.164)])
def test_critical_values_are_demsars(treatments, q):
    found = rank_scores(normal((12, treatments)))
    assert found.critical == pytest.approx(q * np.sqrt(treatments * (treatments + 1) / (6 * 12)), abs=1e-3)


def test_treatments_that_all_tie_do_not_differ():
    found = rank_scores(np.full((4, 3), 0.5))
    assert found.p == 1 and found.cliques == [(0, 1, 2)]


def test_cliques_are_the_largest_runs_and_none_lies_within_another():
    assert cliques([1.0, 2.0, 3.0, 9.0], 1.0) == [(0, 1), (1, 2), (3,)]
    assert cliques([3.0, 1.0, 2.0], 5.0) == [(1, 2, 0)]


@pytest.mark.parametrize("shape", [(1, 3), (5, 2)])
def test_too_small_a_table_is_refused(shape):
    with pytest.raises(ValueError, match="at least 2 blocks"):
        rank_scores(np.ones(shape))


def test_signed_rank_is_scipys_without_ties():
    differences = normal((3, 6), mean=0.05)
    differences[1, 2] = 0
    expected = stats.wilcoxon(differences[differences != 0])
    found = signed_rank(differences)
    assert (found.statistic, found.p, found.pairs) == (expected.statistic, expected.pvalue, 17)
    assert np.isnan(signed_rank([0, 0]).p) and signed_rank([0, 0]).pairs == 0


@pytest.mark.parametrize("freedom", [1, 2, 3, 5, 14, 30, 100, 10_000])
def test_students_distribution_is_scipys(freedom):
    for value in (0.1, 1, 2.5, 40):
        assert student_p(value, freedom) == pytest.approx(2 * stats.t.sf(value, freedom), abs=1e-7)
    for level in (0.95, 0.999):
        assert student_quantile(level, freedom) == pytest.approx(stats.t.ppf((1 + level) / 2, freedom), rel=1e-6)


def test_the_interval_of_one_run_is_students_over_classes():
    values = normal((1, 12))
    expected = stats.ttest_1samp(values[0], 0).confidence_interval(0.95)
    assert interval(values)[1:] == pytest.approx(tuple(expected), abs=1e-6)


def test_the_interval_of_scores_stays_within_0_and_1():
    found = interval([[0.99, 0.98, 0.7]])
    assert found.high == 1 and found.low > 0


def test_classes_that_recur_in_every_run_are_not_more_classes():
    one = normal((1, 8))
    many = np.repeat(one, 9, axis=0)
    assert interval(many, [0, 0, 0, 1, 1, 1, 2, 2, 2])[1:] == pytest.approx(interval(one)[1:], abs=0.006)


def test_every_level_widens_the_interval():
    by_order = np.repeat(normal((3, 1), spread=0.05), 3, axis=0)
    nested, flat = interval(by_order, [0, 0, 0, 1, 1, 1, 2, 2, 2]), interval(by_order)
    assert nested.high - nested.low > 1.3 * (flat.high - flat.low)


def drawn(rng, shape, classes, run, residual, skewed=False):
    """Scores around 0: class effects (of AUROCs, skewed to the left, if asked), run effects, and their interaction."""
    runs, width = shape
    effect = rng.beta(8, 2, (1, width)) - 0.8 if skewed else rng.normal(0, 0.12, (1, width))
    return classes * effect + rng.normal(0, run, (runs, 1)) + rng.normal(0, residual, shape)


@pytest.mark.slow
@pytest.mark.parametrize("skewed", [False, True])
@pytest.mark.parametrize("width", [6, 7, 12, 15])
@pytest.mark.parametrize("runs", [1, 2, 3])
def test_the_interval_over_classes_covers_the_truth(runs, width, skewed):
    rng, rounds = np.random.default_rng([runs, width, skewed]), 4000
    found = (crossed_mean(drawn(rng, (runs, width), 1, 0.01, 0.03, skewed)).interval() for _ in range(rounds))
    assert sum(low <= 0 <= high for _, low, high in found) / rounds >= 0.93 - 0.008  # two standard errors of 4000


@pytest.mark.slow
@pytest.mark.parametrize(
    "effects", [(0.2, 0.1, 0.02), (1, 0.05, 0.03), (0, 0, 0.1), (0, 0.1, 0.1), (1, 0, 0.03)], ids=str
)
@pytest.mark.parametrize("width", [6, 15])
@pytest.mark.parametrize("orders", [[0] * 1, [0] * 2, [0] * 3, [0, 1, 2], [0, 0, 0, 1, 1, 1]], ids=str)
def test_equal_systems_are_rarely_called_different(orders, width, effects):
    rng, rounds, claims = np.random.default_rng(len(orders)), 1500, 0
    for _ in range(rounds):
        differences = drawn(rng, (len(orders), width), *effects)
        differences += rng.normal(0, effects[1], max(orders) + 1)[orders][:, None] * (len(set(orders)) > 1)
        said = paired.verdict(crossed_mean(differences, orders), len(orders), width)
        claims += "is better" in said
    assert claims / rounds <= 0.07
    assert claims == 0 or len(orders) >= 3


@pytest.mark.slow
def test_equal_methods_are_rarely_put_below_the_best():
    """The best of five is found by looking, so all ten pairs are compared."""
    rng, wrong = np.random.default_rng(0), 0
    for _ in range(1500):
        scores = sorted((drawn(rng, (3, 7), 0.3, 0.03, 0.03) for _ in range(5)), key=np.mean)
        wrong += any(holm([crossed_mean(scores[-1] - other) for other in scores[:-1]], 10))
    assert wrong / 1500 <= 0.07


def test_delongs_error_is_that_of_the_published_covariance():
    normal, anomalous = np.array([0.1, 0.4, 0.4, 0.2]), np.array([0.3, 0.8, 0.4])
    wins = (anomalous[:, None] > normal) + 0.5 * (anomalous[:, None] == normal)
    expected = wins.mean(1).var(ddof=1) / 3 + wins.mean(0).var(ddof=1) / 4
    assert auroc_error(normal, anomalous) == pytest.approx(np.sqrt(expected))


def test_differences_of_rounding_are_no_differences():
    assert signed_rank([5e-17, -3e-17, 0.1]).pairs == 1
    noise = 0.8 + np.array([[0, 1, 2]] * 6) * 1e-16
    assert rank_scores(noise).p == 1


def test_orders_weigh_alike_however_many_seeds_they_have():
    assert interval([[0.0], [0.0], [0.0], [1.0]], ["a", "a", "a", "b"]).mean == 0.5


def test_missing_values_and_single_values_have_no_interval():
    assert np.isnan(interval([[0.5, np.nan]]).mean)
    assert interval([[0.5]]).mean == 0.5 and np.isnan(interval([[0.5]]).low)
    with pytest.raises(ValueError, match="orders"):
        interval([[0.5, 0.6]], ["a", "b"])


def two_systems():
    scores = normal((2, 3, 3), spread=0.05)
    scores[0] += 0.15
    made = [
        scored(method, scores[i, seed], seed=seed) for i, method in enumerate(("good", "poor")) for seed in range(3)
    ]
    return scores, made


def test_two_systems_are_paired_by_seed_and_class():
    scores, made = two_systems()
    (found,) = pairing.pair("good+patchcore", "poor+patchcore", made[::-1])
    assert found.scores == pytest.approx(scores) and found.classes == sorted(CLASSES)
    assert found.over_classes().pairs == 3
    assert found.crossed().mean == pytest.approx((scores[0] - scores[1]).mean())


def test_other_orders_are_aligned_by_class_name():
    turned = {"order": "reversed", "classes": list(CLASSES[::-1]), "steps": [[name] for name in CLASSES[::-1]]}
    made = [scored(m, (0.9, 0.8, 0.7)) for m in ("good", "poor")]
    made += [scored(m, (0.7, 0.8, 0.9), **turned) for m in ("good", "poor")]
    (found,) = pairing.pair("good+patchcore", "poor+patchcore", made)
    assert found.orders == ["published", "reversed"]
    assert found.scores == pytest.approx(np.tile([0.9, 0.8, 0.7], (2, 2, 1)))


def test_only_runs_of_one_setting_are_paired():
    made = [cell(method="good"), cell(method="poor"), cell(method="good", seed=1), cell(method="poor", image_size=32)]
    (found,) = pairing.pair("good+patchcore", "poor+patchcore", made)
    assert found.runs == [("published", 0)] and found.setting["image_size"] == 64
    with pytest.raises(BadInput, match="share no finished run"):
        pairing.pair("good+patchcore", "poor+patchcore", made[2:])


def test_options_are_named_only_where_they_tell_systems_apart():
    big = {"method_config": {"per_class": 40}, "variant": "per_class=40"}
    made = [cell(method="good", **big), cell(method="poor")]
    assert pairing.pair("good+patchcore", "poor+patchcore", made)[0].names[0] == "good+patchcore,per_class=40"
    made.append(cell(method="good", method_config={"per_class": 20}, variant="per_class=20"))
    with pytest.raises(BadInput, match="fits several systems: name one of good\\+patchcore,per_class=20; good"):
        pairing.pair("good+patchcore", "poor+patchcore", made)
    assert pairing.pair("good+patchcore,per_class=20", "poor+patchcore", made)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("good+patchcore", "god+patchcore"), "no finished result of 'god\\+patchcore'"),
        (("good+patchcore", "poor+patchcore", "f1"), "no metric 'f1': choose one of image_auroc"),
        (("good+patchcore", "poor+patchcore", "aupro", "toy/9"), "on toy/9"),
    ],
)
def test_what_cannot_be_paired_says_why(arguments, text):
    first, second, *rest = arguments
    with pytest.raises(BadInput, match=text):
        pairing.pair(first, second, [cell(method="good"), cell(method="poor")], *rest)


def command(capsys, *arguments):
    code = cli.main(["compare", *map(str, arguments)])
    output = capsys.readouterr()
    return code, output.out + output.err


def test_the_command_prints_difference_interval_test_and_verdict(tmp_path, capsys):
    scores, made = two_systems()
    for one in made:
        results.write_cell(tmp_path, one)
    code, text = command(capsys, "good+patchcore", "poor+patchcore", "--results", tmp_path)
    text = " ".join(text.split())  # sentences may be folded
    mean, low, high = crossed_mean(scores[0] - scores[1]).interval()
    assert code == 0 and f"A - B = {mean:+.3f}, 95 % interval {low:+.3f} to {high:+.3f}" in text
    assert "p < 0.05 cannot be shown with 3 classes that differ" in text
    assert "A difference cannot be shown with 3 runs and 3 classes: 3 runs and 6 classes needed." in text
    assert "warning: one class order" in text


def test_few_pairs_one_run_and_other_weights_are_warned_of():
    none = {"weights": {"kind": "none", "source": "", "sha256": None}, "backbone": None}
    (found,) = pairing.pair(
        "good+patchcore", "poor+patchcore", [cell(0.9, method="good"), cell(0.8, method="poor", **none)]
    )
    told = " ".join(paired.paired_warnings(found))
    assert "one run" in told
    assert "A starts from procedural test_resnet, B from none" in told
    assert paired.verdict(found.crossed(), 1, 3).startswith("A difference cannot be shown with 1 run and 3 classes")


def test_a_difference_is_claimed_where_the_design_shows_it():
    apart, same = normal((3, 8), mean=0.1, spread=0.02), normal((3, 8), mean=0, spread=0.1)
    assert paired.verdict(crossed_mean(apart), 3, 8).startswith("A is better: ")
    assert paired.verdict(crossed_mean(-apart), 3, 8).startswith("B is better: ")
    assert paired.verdict(crossed_mean(same), 3, 8).startswith("Not shown to differ: ")


def contestants(blocks=4):
    scores = normal((blocks, 3), spread=0.01) + np.array([0.2, 0.1, 0.0])
    places = list(itertools.product(("toy/1x3", "other/1x3"), ("patchcore", "padim")))[:blocks]
    made = [
        cell(scores[i, k], method=f"m{k}", scenario=scenario, detector=detector)
        for i, (scenario, detector) in enumerate(places)
        for k in range(3)
    ]
    return scores, made


def test_methods_are_ranked_over_scenarios_and_detectors():
    scores, made = contestants()
    extra = [cell(0.99, method="rare"), cell(0.99, method="joint", capabilities=["reads_ahead"])]
    found = ranking.contest(made + extra)
    assert found.names == ["m0", "m1", "m2"] and found.absent == ["rare"]
    assert sorted(found.scores[:, 0]) == pytest.approx(sorted(scores[:, 0]))
    statistic, p = stats.friedmanchisquare(*scores.T)
    assert (found.ranking.statistic, found.ranking.p) == pytest.approx((statistic, p))
    told = " ".join(ranking.ranks_warnings(found))
    assert "4 blocks: below 10" in told and "4 blocks come from 2 data sets" in told and "not run in every" in told


def test_other_detector_settings_are_another_block():
    _, made = contestants(2)
    made.append(cell(0.9, method="m0", detector_config={"coreset": 0.5}))
    assert len(ranking.contest(made).blocks) == 2


def test_joint_is_ranked_where_it_is_named():
    _, made = contestants()
    made += [cell(0.99, method="joint", detector=d, capabilities=["reads_ahead"]) for d in ("patchcore", "padim")]
    assert ranking.contest(made, names=["m0", "m1", "joint"]).names[0] == "joint"


def test_systems_are_ranked_over_scenarios(tmp_path, capsys):
    _, made = contestants()
    for one in made:
        results.write_cell(tmp_path, one)
    code, text = command(capsys, "--cd", "m0+padim", "m1+padim", "m2+patchcore", "--results", tmp_path)
    lines, text = [line.split() for line in text.splitlines()], " ".join(text.split())
    assert code == 0 and lines[2][:2] == ["m0+padim", "1.00"] and lines[4][0] == "m2+patchcore"
    assert "Friedman over 2 blocks: chi-square = 4.00" in text and "critical difference at 0.05: 2.34" in text
    assert lines[2][3] == "a" and "below 10" in text and "does not show any difference" in text


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--cd", "m0", "m1"), "2 methods in 4 blocks"),
        (("--cd", "m0", "m1", "m9"), "no finished result of m9: there are m0, m1, m2"),
        (("--cd", "--metric", "f1"), "no metric 'f1'"),
        (("m0+padim",), "1 systems given: name two"),
    ],
)
def test_what_cannot_be_ranked_says_why(tmp_path, capsys, arguments, text):
    for one in contestants()[1]:
        results.write_cell(tmp_path, one)
    code, output = command(capsys, *arguments, "--results", tmp_path)
    assert code == 2 and text in output
