"""The ranking metrics against scikit-learn and a brute force over every threshold, ties and odd inputs included."""

import math
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, f1_score, precision_recall_curve, recall_score, roc_auc_score

from bench.metrics import ranking as metrics

NAN = float("nan")
PIXEL = ("pixel_auroc", "pixel_ap", "pixel_f1max", "aupro")


def grid(seed, levels=None):
    """Random maps and masks; `levels` distinct scores, so that ties within and across both sides abound."""
    rng = np.random.default_rng(seed)
    n, h, w = rng.integers(1, 5), rng.integers(6, 14), rng.integers(6, 14)
    masks = rng.random((n, h, w)) < rng.uniform(0.02, 0.3)
    masks[0, 0, 0], masks[0, -1, -1] = True, False
    maps = rng.normal(size=masks.shape) + masks * rng.uniform(-1, 2)
    if levels:
        maps = np.floor((maps - maps.min()) / np.ptp(maps) * (levels - 1e-9))
    return maps, masks


def expected(scores, truth):
    """AUROC, AP and F1-max by scikit-learn."""
    precision, recall, _ = precision_recall_curve(truth, scores)
    with np.errstate(invalid="ignore"):
        f1 = 2 * precision * recall / (precision + recall)
    return roc_auc_score(truth, scores), average_precision_score(truth, scores), np.nanmax(f1)


def flood(masks):
    """Regions of each image by flood fill over the eight neighbours: a list of (image, rows, columns)."""
    found, seen = [], np.zeros(masks.shape, bool)
    for n, y, x in np.argwhere(masks):
        if seen[n, y, x]:
            continue
        seen[n, y, x], region, front = True, [], [(y, x)]
        while front:
            y, x = front.pop()
            region.append((y, x))
            for v in range(max(y - 1, 0), min(y + 2, masks.shape[1])):
                for u in range(max(x - 1, 0), min(x + 2, masks.shape[2])):
                    if masks[n, v, u] and not seen[n, v, u]:
                        seen[n, v, u] = True
                        front.append((v, u))
        found.append((n, *np.transpose(region)))
    return found


def brute_aupro(maps, masks, limit):
    """Trapezoids over the curve with a point at every distinct score of any pixel, cut at `limit` by interpolation."""
    curve, regions = [(0.0, 0.0)], flood(masks)
    for threshold in np.unique(maps)[::-1]:
        hit = maps >= threshold
        overlap = np.mean([hit[region].mean() for region in regions])
        curve.append((hit[~masks].mean(), overlap))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(curve):
        if x1 > limit:
            y1 = y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
            return (area + (limit - x0) * (y0 + y1) / 2) / limit
        area += (x1 - x0) * (y0 + y1) / 2
    return area / limit


def by_torch(maps, masks, limit=0.3):
    """The torch path, forced on the CPU, where the public functions prefer NumPy."""
    labels, count = metrics.regions(masks)
    flat = metrics._floating(torch, torch.from_numpy(maps)).reshape(-1)
    return dict(zip(PIXEL, metrics._metrics(torch, flat, torch.from_numpy(labels.ravel()), count, limit), strict=True))


@pytest.mark.parametrize("levels", [None, 2, 3, 7, 30])
@pytest.mark.parametrize("seed", range(12))
def test_pixel_metrics_equal_scikit_learn_and_brute_force(seed, levels):
    maps, masks = grid(seed, levels)
    ours = metrics.pixel_metrics(maps, *metrics.regions(masks))
    assert [ours[name] for name in PIXEL[:3]] == pytest.approx(expected(maps.ravel(), masks.ravel()), abs=1e-9)
    assert ours["aupro"] == pytest.approx(brute_aupro(maps, masks, 0.3), abs=1e-9)
    assert by_torch(maps, masks) == pytest.approx(ours, abs=1e-9)


@pytest.mark.parametrize("limit", [0.01, 0.05, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("levels", [None, 4])
def test_aupro_at_other_limits(limit, levels):
    maps, masks = grid(99, levels)
    ours = metrics.pixel_metrics(maps, *metrics.regions(masks), fpr_limit=limit)["aupro"]
    assert ours == pytest.approx(brute_aupro(maps, masks, limit), abs=1e-9)


@pytest.mark.parametrize("levels", [None, 2, 5])
@pytest.mark.parametrize("seed", range(10))
def test_image_metrics_equal_scikit_learn(seed, levels):
    maps, masks = grid(seed, levels)
    ours = metrics.image_metrics(maps.ravel(), masks.ravel())
    assert list(ours) == list(metrics.METRICS[:3])
    assert list(ours.values()) == pytest.approx(expected(maps.ravel(), masks.ravel()), abs=1e-9)


def test_a_tie_counts_half_whichever_comes_first():
    for labels in ([0, 1], [1, 0]):
        assert metrics.image_metrics([1.0, 1.0], labels) == {"image_auroc": 0.5, "image_ap": 0.5, "image_f1max": 2 / 3}


def test_worked_by_hand():
    # thresholds 9, 8, 7 (tied with one normal), rest: hits 1, 1, 2; false alarms 0, 1, 2 of 4; two regions of one pixel
    maps = np.array([[[9.0, 8.0, 7.0], [7.0, 2.0, 1.0]]])
    masks = np.array([[[True, False, True], [False, False, False]]])
    ours = metrics.pixel_metrics(maps, *metrics.regions(masks), fpr_limit=0.5)
    assert ours["pixel_auroc"] == pytest.approx((4 + 2 + 0.5) / 8)
    assert ours["pixel_ap"] == pytest.approx(0.5 * 1 + 0.5 * 2 / 4)
    assert ours["pixel_f1max"] == pytest.approx(2 / 3)
    assert ours["aupro"] == pytest.approx((0.25 * 0.5 + 0.25 * 0.75) / 0.5)


def test_small_regions_weigh_as_much_as_large_ones():
    masks = np.zeros((1, 8, 8), bool)
    masks[0, :4, :4], masks[0, 7, 7] = True, True
    maps = np.where(masks, 1.0, 0.0)
    maps[0, 7, 7] = -1.0
    assert metrics.pixel_metrics(maps, *metrics.regions(masks))["aupro"] == pytest.approx(
        brute_aupro(maps, masks, 0.3), abs=1e-12
    )
    assert metrics.pixel_metrics(maps, *metrics.regions(masks))["aupro"] == pytest.approx(0.5)


@pytest.mark.parametrize("transform", [lambda s: 3 * s - 40, np.exp, lambda s: s**3, lambda s: -1 / (s - s.min() + 1)])
def test_a_strictly_monotone_transform_changes_nothing(transform):
    maps, masks = grid(5, 40)
    labels = metrics.regions(masks)
    assert metrics.pixel_metrics(transform(maps / 8), *labels) == metrics.pixel_metrics(maps, *labels)


def test_a_reversed_ranking_is_not_flipped():
    assert metrics.image_metrics([3.0, 2.0, 1.0, 0.0], [0, 0, 1, 1])["image_auroc"] == 0
    maps, masks = grid(3)
    labels = metrics.regions(masks)
    up, down = metrics.pixel_metrics(maps, *labels), metrics.pixel_metrics(-maps, *labels)
    assert up["pixel_auroc"] + down["pixel_auroc"] == pytest.approx(1, abs=1e-12)


def test_scores_far_from_zero_to_one_are_not_squashed():
    maps, masks = grid(6)
    near, far = (metrics.image_metrics(s.ravel(), masks.ravel()) for s in (maps, maps * 20 + 900))
    assert far == pytest.approx(near, abs=1e-12)


def test_constant_scores():
    maps, masks = np.full((2, 5, 5), 0.7), np.zeros((2, 5, 5), bool)
    masks[0, 1, 1:3] = True
    ours = metrics.pixel_metrics(maps, *metrics.regions(masks))
    assert ours == pytest.approx({"pixel_auroc": 0.5, "pixel_ap": 0.04, "pixel_f1max": 4 / 52, "aupro": 0.15})


@pytest.mark.parametrize("kind", ["float16", "float32", "float64", "int8", "int32", "int64", "uint8", ">f4"])
def test_every_type_of_score_is_ranked_exactly(kind):
    maps, masks = grid(7, 50)
    labels = metrics.regions(masks)
    assert metrics.pixel_metrics(maps.astype(kind), *labels) == metrics.pixel_metrics(maps, *labels)


def test_neighbouring_values_of_a_type_stay_apart():
    for kind, base in (("float16", 1.0), ("float32", 1.0), ("float64", 1.0), ("int32", 2**30), ("int64", 2**40)):
        low = np.asarray(base, kind)
        high = np.nextafter(low, np.asarray(2, kind)) if low.dtype.kind == "f" else low + np.asarray(1, kind)
        scores = np.array([low, high], kind)
        assert metrics.image_metrics(scores, [0, 1])["image_auroc"] == 1, kind
        assert metrics.image_metrics(torch.from_numpy(scores), torch.tensor([0, 1]))["image_auroc"] == 1, kind


def test_negative_zero_ties_with_zero():
    assert metrics.image_metrics([0.0, -0.0], [0, 1])["image_auroc"] == 0.5
    assert metrics.image_metrics([0.0, -0.0], [1, 0])["image_auroc"] == 0.5


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int32])
def test_cpu_tensors_give_the_numbers_of_numpy(kind):
    maps, masks = grid(8, 60)
    labels, count = metrics.regions(masks)
    tensor = torch.from_numpy(maps).to(kind)
    for truth in (labels, torch.from_numpy(labels)):
        assert metrics.pixel_metrics(tensor, truth, count) == metrics.pixel_metrics(maps, labels, count)
    image = metrics.image_metrics(tensor.reshape(-1), torch.from_numpy(masks).reshape(-1))
    assert image == metrics.image_metrics(maps.ravel(), masks.ravel())


def test_scores_and_labels_are_left_as_they_were():
    maps, masks = grid(9)
    labels, count = metrics.regions(masks)
    kept = maps.copy(), labels.copy()
    metrics.pixel_metrics(maps, labels, count)
    by_torch(maps, masks)
    assert (maps == kept[0]).all()
    assert (labels == kept[1]).all()


def test_tensors_that_require_grad_are_read():
    scores = torch.tensor([0.1, 0.9], requires_grad=True)
    assert metrics.image_metrics(scores, torch.tensor([0, 1]))["image_auroc"] == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("levels", [None, 5])
def test_cuda_tensors_give_the_numbers_of_numpy(levels):
    maps, masks = grid(10, levels)
    labels, count = metrics.regions(masks)
    there = torch.from_numpy(maps).cuda()
    assert metrics.pixel_metrics(there, labels, count) == pytest.approx(
        metrics.pixel_metrics(maps, labels, count), abs=1e-9
    )


@pytest.mark.parametrize("xp", [np, torch])
def test_one_class(xp):
    maps, nothing = np.random.default_rng(0).normal(size=(2, 4, 4)), np.zeros((2, 4, 4), bool)
    of = metrics.pixel_metrics if xp is np else lambda maps, labels, count: by_torch(maps, labels > 0)
    ours = of(maps, *metrics.regions(nothing))
    assert all(math.isnan(ours[name]) for name in PIXEL)
    ours = of(maps, *metrics.regions(~nothing))
    assert math.isnan(ours["pixel_auroc"])
    assert math.isnan(ours["aupro"])
    assert (ours["pixel_ap"], ours["pixel_f1max"]) == (1, 1)


def test_no_images():
    assert all(math.isnan(value) for value in metrics.image_metrics([], []).values())


@pytest.mark.parametrize("xp", [np, torch])
@pytest.mark.parametrize("labels", [[0, 1, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]])
@pytest.mark.parametrize("bad", [[NAN], [np.inf], [-np.inf], [NAN, -np.inf]])
def test_scores_that_are_not_finite_are_counted(xp, labels, bad):
    scores = np.array([*bad, *range(4 - len(bad))], float)
    with pytest.raises(ValueError, match=f"{len(bad)} of 4 scores are NaN or infinite"):
        metrics._metrics(xp, xp.asarray(scores), xp.asarray(labels), 1, None)


def test_other_bad_input():
    maps, masks = grid(1)
    labels, count = metrics.regions(masks)
    with pytest.raises(ValueError, match="they differ"):
        metrics.pixel_metrics(maps[:, 1:], labels, count)
    with pytest.raises(ValueError, match=r"must lie in 0\.\.1"):
        metrics.image_metrics([1.0, 2.0], [0, 2])
    with pytest.raises(ValueError, match=r"must lie in 0\.\.1"):
        metrics.image_metrics([1.0, 2.0], [-1, 1])
    with pytest.raises(ValueError, match=f"must lie in 0..{count - 1}"):
        metrics.pixel_metrics(maps, labels, count - 1)
    for limit in (0, -0.3, 1.1, NAN):
        with pytest.raises(ValueError, match="fpr_limit"):
            metrics.pixel_metrics(maps, labels, count, fpr_limit=limit)
    with pytest.raises(ValueError, match="masks have shape"):
        metrics.regions(masks[0])


@pytest.mark.parametrize("seed", range(5))
def test_regions_are_eight_connected_within_an_image(seed):
    _, masks = grid(seed)
    labels, count = metrics.regions(masks)
    assert labels.dtype == np.int32
    assert ((labels > 0) == masks).all()
    found = flood(masks)
    assert count == len(found)
    assert sorted({*labels[region]}.pop() for region in found) == list(range(1, count + 1))
    assert all(len({*labels[region]}) == 1 for region in found)


def test_regions_may_be_those_of_a_larger_set():
    maps, masks = grid(2)
    maps, masks = np.concatenate([maps, maps + 1]), np.concatenate([masks, masks])
    labels, count = metrics.regions(masks)
    half = len(maps) // 2
    assert metrics.pixel_metrics(maps[half:], labels[half:], count) == metrics.pixel_metrics(
        maps[half:], *metrics.regions(masks[half:])
    )


@pytest.mark.parametrize("seed", range(4))
def test_threshold_metrics(seed):
    maps, masks = grid(seed, 6)
    scores, labels = maps.ravel(), masks.ravel()
    threshold = float(np.median(scores))
    ours = metrics.threshold_metrics(scores, labels, threshold)
    rejected = scores > threshold
    assert ours["f1"] == pytest.approx(f1_score(labels, rejected))
    assert ours["recall"] == pytest.approx(recall_score(labels, rejected))
    assert ours["precision"] == pytest.approx(labels[rejected].mean())
    assert ours["false_alarm"] == pytest.approx(rejected[~labels].mean())
    assert metrics.threshold_metrics(torch.from_numpy(scores), torch.from_numpy(labels), threshold) == ours


def test_threshold_metrics_without_cases():
    nothing = metrics.threshold_metrics([0.5, 0.5], [0, 1], 0.5)
    assert (nothing["f1"], nothing["recall"], nothing["false_alarm"]) == (0, 0, 0)
    assert math.isnan(nothing["precision"])
    normal = metrics.threshold_metrics([0.6, 0.4], [0, 0], 0.5)
    assert (normal["false_alarm"], normal["precision"]) == (0.5, 0)
    assert math.isnan(normal["f1"])
    assert math.isnan(normal["recall"])
    assert math.isnan(metrics.threshold_metrics([0.6], [1], 0.5)["false_alarm"])
    with pytest.raises(ValueError, match="1 of 2 scores"):
        metrics.threshold_metrics([NAN, 0.5], [0, 1], 0.5)
    with pytest.raises(ValueError, match="threshold is nan"):
        metrics.threshold_metrics([0.6, 0.5], [0, 1], NAN)


def test_names():
    masks = np.eye(4, dtype=bool)[None]
    names = *metrics.image_metrics([0.0, 1.0], [0, 1]), *metrics.pixel_metrics(masks * 1.0, *metrics.regions(masks))
    assert names == metrics.METRICS
    assert {name: True for name in names} == metrics.HIGHER_IS_BETTER
    assert metrics.METRIC_VERSION == 1


def test_torch_is_not_imported():
    code = "import sys; from bench.metrics import matrix, metrics; metrics.image_metrics([0.0, 1.0], [0, 1]); "
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
