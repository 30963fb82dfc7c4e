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
from bench.metrics.statistics import cliques, interval, rank, signed_rank

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
    found = rank(DEMSAR)
    assert found.ranks == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=5e-4)
    assert found.critical == pytest.approx(1.25, abs=5e-3) and found.blocks == 14
    statistic, p = stats.friedmanchisquare(*DEMSAR.T)
    assert (found.statistic, found.p) == pytest.approx((statistic, p))
    assert found.cliques == [(3, 1, 2, 0)]  # as there: Nemenyi's test finds nothing at 0.05


@pytest.mark.parametrize(("treatments", "q"), [(3, 2.343), (4, 2.569), (5, 2.728), (7, 2.949), (10, 3.164)])
def test_critical_values_are_demsars(treatments, q):
    found = rank(normal((12, treatments)))
    assert found.critical == pytest.approx(q * np.sqrt(treatments * (treatments + 1) / (6 * 12)), abs=1e-3)


def test_treatments_that_all_tie_do_not_differ():
    found = rank(np.full((4, 3), 0.5))
    assert found.p == 1 and found.cliques == [(0, 1, 2)]


def test_cliques_are_the_largest_runs_and_none_lies_within_another():
    assert cliques([1.0, 2.0, 3.0, 9.0], 1.0) == [(0, 1), (1, 2), (3,)]
    assert cliques([3.0, 1.0, 2.0], 5.0) == [(1, 2, 0)]


@pytest.mark.parametrize("shape", [(1, 3), (5, 2)])
def test_too_small_a_table_is_refused(shape):
    with pytest.raises(ValueError, match="at least 2 blocks"):
        rank(np.ones(shape))


def test_signed_rank_is_scipys_without_ties():
    differences = normal((3, 6), mean=0.05)
    differences[1, 2] = 0
    expected = stats.wilcoxon(differences[differences != 0])
    found = signed_rank(differences)
    assert (found.statistic, found.p, found.pairs) == (expected.statistic, expected.pvalue, 17)
    assert np.isnan(signed_rank([0, 0]).p) and signed_rank([0, 0]).pairs == 0


def test_the_interval_of_one_run_is_scipys_percentile_bootstrap():
    values = normal((1, 12))
    expected = stats.bootstrap((values[0],), np.mean, method="percentile", rng=np.random.default_rng(1))
    found = interval(values)
    assert found.mean == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval), abs=0.006)
    assert interval(values) == found


def test_classes_that_recur_in_every_run_are_not_more_classes():
    one = normal((1, 8))
    many = np.repeat(one, 9, axis=0)
    assert interval(many, [0, 0, 0, 1, 1, 1, 2, 2, 2])[1:] == pytest.approx(interval(one)[1:], abs=0.006)


def test_every_level_widens_the_interval():
    runs = normal((9, 1), spread=1.0)
    between_seeds = interval(runs)
    assert between_seeds.high - between_seeds.low == pytest.approx(2 * 1.96 * runs.std() / 3, rel=0.1)
    by_order = np.repeat(normal((3, 1), spread=1.0), 3, axis=0)
    nested, flat = interval(by_order, [0, 0, 0, 1, 1, 1, 2, 2, 2]), interval(by_order)
    assert nested.high - nested.low > 1.3 * (flat.high - flat.low)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng, hits = np.random.default_rng(3), 0
    for _ in range(200):
        values = rng.normal(0, 1, (1, 15)) + rng.normal(0, 0.5, (6, 1)) + rng.normal(0, 0.5, (6, 15))
        found = interval(values, rounds=400)
        hits += found.low <= 0 <= found.high
    assert 0.87 <= hits / 200 <= 0.99


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
    expected = stats.wilcoxon((scores[0] - scores[1]).ravel())
    assert found.over_blocks() == (9, expected.statistic, expected.pvalue)
    assert found.over_classes().pairs == 3
    assert found.interval().mean == pytest.approx((scores[0] - scores[1]).mean())


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
        results.write(tmp_path, one)
    code, text = command(capsys, "good+patchcore", "poor+patchcore", "--results", tmp_path)
    low, high = interval(scores[0] - scores[1])[1:]
    assert (
        code == 0 and f"A - B = {(scores[0] - scores[1]).mean():+.3f}, 95 % interval {low:+.3f} to {high:+.3f}" in text
    )
    assert "W = 0, p = 0.00391, 9 pairs" in text and "A is better on these runs; over classes alone" in text
    assert "warning: one class order" in text and "warning: the tests disagree" in text


def test_few_pairs_one_run_and_other_weights_are_warned_of():
    none = {"weights": {"kind": "none", "source": "", "sha256": None}, "backbone": None}
    (found,) = pairing.pair(
        "good+patchcore", "poor+patchcore", [cell(0.9, method="good"), cell(0.8, method="poor", **none)]
    )
    told = " ".join(paired.warnings(found))
    assert "3 pairs that differ: below 6" in told and "one run" in told
    assert "A starts from procedural test_resnet, B from none" in told
    assert paired.verdict(found.interval(), found.over_blocks(), found.over_classes()).startswith("No difference")


def test_a_difference_is_claimed_in_full_where_both_tests_show_it():
    apart, same = interval(normal((3, 8), mean=0.1, spread=0.02)), interval(normal((3, 8), mean=0, spread=0.1))
    sure, unsure = signed_rank(normal((3, 8), mean=0.1, spread=0.02)), signed_rank([0.1, -0.05])
    assert paired.verdict(apart, sure, sure).startswith("A is better: ")
    assert paired.verdict(apart, sure, unsure).startswith("A is better on these runs; over classes alone")
    assert paired.verdict(same, sure, sure).startswith("No difference is shown")
    turned = signed_rank(-normal((3, 8), mean=0.1, spread=0.02))
    assert paired.verdict(interval(-normal((3, 8), mean=0.1, spread=0.02)), turned, turned).startswith("B is better: ")


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
    told = " ".join(ranking.warnings(found))
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
        results.write(tmp_path, one)
    code, text = command(capsys, "--cd", "m0+padim", "m1+padim", "m2+patchcore", "--results", tmp_path)
    lines = [line.split() for line in text.splitlines()]
    assert code == 0 and lines[2][:2] == ["m0+padim", "1.00"] and lines[4][0] == "m2+patchcore"
    assert "Friedman over 2 blocks: chi-square = 4.00" in text and "critical difference at 0.05: 2.34" in text
    assert lines[2][3] == "a" and "below 10" in text and "no difference at all" in text


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
        results.write(tmp_path, one)
    code, output = command(capsys, *arguments, "--results", tmp_path)
    assert code == 2 and text in output
