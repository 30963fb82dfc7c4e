"""The ranking metrics against scikit-learn and a brute force over every threshold, ties and odd inputs included."""

import math
import subprocess
import sys
from itertools import pairwise
from unittest.mock import patch

import numpy as np
import pytest
import torch
from scipy import ndimage
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from bench.metrics import aupimo
from bench.metrics import ranking as metrics
from bench.schema.metric import summarised

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


def brute_aupro(maps, masks, limit, regions=None):
    """Trapezoids over the curve with a point at every distinct score of any pixel, cut at `limit` by interpolation."""
    curve, regions = [(0.0, 0.0)], regions or flood(masks)
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


def by_torch(function, *arguments, **options):
    """The torch path, forced on the CPU, where the public functions prefer NumPy."""

    def flat(scores):
        return torch, metrics._floating(torch, torch.as_tensor(scores)).reshape(-1)

    with patch.object(metrics, "_flat", flat), patch.object(aupimo, "_flat", flat):
        return function(*arguments, **options)


@pytest.mark.parametrize("levels", [None, 2, 3, 7, 30])
@pytest.mark.parametrize("seed", range(12))
def test_pixel_metrics_equal_scikit_learn_and_brute_force(seed, levels):
    maps, masks = grid(seed, levels)
    truth = metrics.regions(masks)
    ours = metrics.pixel_metrics(maps, truth)
    assert [ours[name] for name in PIXEL[:3]] == pytest.approx(expected(maps.ravel(), masks.ravel()), abs=1e-9)
    assert ours["aupro"] == pytest.approx(brute_aupro(maps, masks, 0.3), abs=1e-9)
    with patch.object(metrics, "BLOCK", 3), patch.object(metrics, "DEVICE_BLOCK", 5):
        assert by_torch(metrics.pixel_metrics, maps, truth) == pytest.approx(ours, abs=1e-9, nan_ok=True)
        assert metrics.pixel_metrics(maps, truth) == pytest.approx(ours, abs=1e-9, nan_ok=True)
    for kind in ("float32", "float64"):  # sorted by keys, and by indices
        assert metrics.pixel_metrics(maps.astype("f4").astype(kind), truth)["aupro"] == pytest.approx(
            brute_aupro(maps.astype("f4"), masks, 0.3), abs=1e-9
        )


@pytest.mark.parametrize("limit", [0.01, 0.05, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("levels", [None, 4])
def test_aupro_at_other_limits(limit, levels):
    maps, masks = grid(99, levels)
    ours = metrics.pixel_metrics(maps, metrics.regions(masks), fpr_limit=limit)["aupro"]
    assert ours == pytest.approx(brute_aupro(maps, masks, limit), abs=1e-9)


@pytest.mark.parametrize("levels", [None, 2, 5])
@pytest.mark.parametrize("seed", range(10))
def test_image_metrics_equal_scikit_learn(seed, levels):
    maps, masks = grid(seed, levels)
    ours = metrics.image_metrics(maps.ravel(), masks.ravel())
    assert list(ours) == list(summarised()[:3])
    assert list(ours.values()) == pytest.approx(expected(maps.ravel(), masks.ravel()), abs=1e-9)


def test_a_tie_counts_half_whichever_comes_first():
    for labels in ([0, 1], [1, 0]):
        assert metrics.image_metrics([1.0, 1.0], labels) == {"image_auroc": 0.5, "image_ap": 0.5, "image_f1max": 2 / 3}


def test_worked_by_hand():
    # thresholds 9, 8, 7 (tied with one normal), rest: hits 1, 1, 2; false alarms 0, 1, 2 of 4; two regions of one pixel
    maps = np.array([[[9.0, 8.0, 7.0], [7.0, 2.0, 1.0]]])
    masks = np.array([[[True, False, True], [False, False, False]]])
    ours = metrics.pixel_metrics(maps, metrics.regions(masks), fpr_limit=0.5)
    assert ours["pixel_auroc"] == pytest.approx((4 + 2 + 0.5) / 8)
    assert ours["pixel_ap"] == pytest.approx(0.5 * 1 + 0.5 * 2 / 4)
    assert ours["pixel_f1max"] == pytest.approx(2 / 3)
    assert ours["aupro"] == pytest.approx((0.25 * 0.5 + 0.25 * 0.75) / 0.5)


def test_small_regions_weigh_as_much_as_large_ones():
    masks = np.zeros((1, 8, 8), bool)
    masks[0, :4, :4], masks[0, 7, 7] = True, True
    maps = np.where(masks, 1.0, 0.0)
    maps[0, 7, 7] = -1.0
    assert metrics.pixel_metrics(maps, metrics.regions(masks))["aupro"] == pytest.approx(
        brute_aupro(maps, masks, 0.3), abs=1e-12
    )
    assert metrics.pixel_metrics(maps, metrics.regions(masks))["aupro"] == pytest.approx(0.5)


@pytest.mark.parametrize("levels", [None, 5])
@pytest.mark.parametrize("seed", range(6))
def test_aupro_by_size_is_that_of_a_third_of_the_regions(seed, levels):
    maps, masks = grid(seed, levels)
    truth, found = metrics.regions(masks), flood(masks)
    small, large = np.quantile([len(region[1]) for region in found], (1 / 3, 2 / 3), method="inverted_cdf")
    thirds = ([], [], [])
    for region in found:
        thirds[int(len(region[1]) > small) + int(len(region[1]) > large)].append(region)
    ours = metrics.pixel_metrics(maps, truth)
    for name, of_size in zip(metrics.AUPRO_BY_SIZE, thirds, strict=True):
        expected = brute_aupro(maps, masks, 0.3, of_size) if of_size else NAN
        assert ours[name] == pytest.approx(expected, abs=1e-9, nan_ok=True)


def test_nine_regions_of_nine_sizes_are_three_small_three_middle_and_three_large():
    masks = np.zeros((9, 3, 9), bool)
    for index in range(9):
        masks[index, 1, : index + 1] = True
    truth = metrics.regions(masks)
    assert truth.size.tolist() == list(range(1, 10))
    assert truth.third.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def brute_aupimo(maps, masks, low, high):
    """The curve over log10 of the shared rate with a point at every distinct score, interpolated at its two ends."""
    normal, found = maps[~masks.any((1, 2))], []
    thresholds = np.unique(maps)[::-1]
    rate = np.array([(normal >= threshold).mean() for threshold in thresholds])
    grid = np.unique(np.concatenate([[np.log(low), np.log(high)], np.log(rate[rate > 0])]))
    grid = grid[(grid >= np.log(low)) & (grid <= np.log(high))]
    for one, mask in zip(maps, masks, strict=True):
        overlap = np.array([(one[mask] >= threshold).mean() if mask.any() else NAN for threshold in thresholds])
        if not mask.any():
            found.append(NAN)
            continue
        middle = (grid[1:] + grid[:-1]) / 2
        # the last point at a rate is the top of a vertical piece; a straight line runs from it to the first of the next
        height = np.zeros(len(middle))
        for index, x in enumerate(middle):
            before = np.flatnonzero((rate == 0) | (np.log(np.maximum(rate, 1e-300)) <= x))
            after = np.flatnonzero((rate > 0) & (np.log(np.maximum(rate, 1e-300)) > x))
            start = overlap[before[-1]] if len(before) else 0.0
            if not len(after) or not len(before) or rate[before[-1]] == 0:
                height[index] = start
                continue
            x0, x1 = np.log(rate[before[-1]]), np.log(rate[after[0]])
            height[index] = start + (overlap[after[0]] - start) * (x - x0) / (x1 - x0)
        found.append(float((height * np.diff(grid)).sum() / np.log(high / low)))
    return np.array(found)


@pytest.mark.parametrize("levels", [None, 4, 12])
@pytest.mark.parametrize("seed", range(3))
def test_aupimo_equals_a_brute_force(seed, levels):
    rng = np.random.default_rng(seed)
    masks = np.zeros((5, 6, 7), bool)
    masks[2:] = rng.random((3, 6, 7)) < 0.3
    maps = rng.normal(size=masks.shape) + masks
    if levels:
        maps = np.floor((maps - maps.min()) / np.ptp(maps) * (levels - 1e-9))
    truth = metrics.regions(masks)
    for bounds in ((0.02, 0.5), (0.1, 0.3), (0.005, 1.0)):
        expected = brute_aupimo(maps, masks, *bounds)
        assert aupimo.aupimo(maps, truth, bounds) == pytest.approx(expected, abs=1e-9, nan_ok=True)
        assert by_torch(aupimo.aupimo, maps, truth, bounds) == pytest.approx(
            aupimo.aupimo(maps, truth, bounds), abs=1e-9, nan_ok=True
        )


def test_aupimo_is_that_of_anomalib():
    """Anomalib takes evenly spaced thresholds; with this many the two curves agree to three places."""
    from anomalib.metrics.pimo.functional import aupimo_scores

    rng = np.random.default_rng(0)
    masks = np.zeros((12, 128, 128), bool)
    masks[6:, 40:60, 30:70] = True
    maps = (ndimage.gaussian_filter(rng.normal(size=masks.shape), (0, 2, 2)) * 8 + 3 * masks).astype("f4")
    bounds = (1e-3, 1e-2)
    theirs = aupimo_scores(torch.from_numpy(maps), torch.from_numpy(masks), 30_000, fpr_bounds=bounds)[4].numpy()
    ours = aupimo.aupimo(maps, metrics.regions(masks), bounds)
    assert np.isnan(ours[:6]).all() and np.isnan(theirs[:6]).all()
    assert 0.05 < np.nanmin(ours) < np.nanmax(ours) < 0.95, "neither all nor nothing is found"
    assert ours[6:] == pytest.approx(theirs[6:], abs=2e-3)


def test_aupimo_of_what_cannot_be_told():
    maps, masks = np.zeros((2, 50, 50)), np.zeros((2, 50, 50), bool)
    assert np.isnan(aupimo.aupimo(maps, metrics.regions(masks))).all()  # no anomalous image
    masks[1, 0, 0] = True
    assert np.isnan(aupimo.aupimo(maps, metrics.regions(masks))).all()  # 2,500 normal pixels: no rate of 1e-4
    maps[1, 0, 0] = 1
    assert aupimo.aupimo(maps, metrics.regions(masks), (1e-3, 1e-2))[1] == 1  # above every normal pixel
    with pytest.raises(ValueError, match="bounds"):
        aupimo.aupimo(maps, metrics.regions(masks), (1e-2, 1e-3))


@pytest.mark.parametrize("transform", [lambda s: 3 * s - 40, np.exp, lambda s: s**3, lambda s: -1 / (s - s.min() + 1)])
def test_a_strictly_monotone_transform_changes_nothing(transform):
    maps, masks = grid(5, 40)
    labels = metrics.regions(masks)
    assert metrics.pixel_metrics(transform(maps / 8), labels) == metrics.pixel_metrics(maps, labels)


def test_a_reversed_ranking_is_not_flipped():
    assert metrics.image_metrics([3.0, 2.0, 1.0, 0.0], [0, 0, 1, 1])["image_auroc"] == 0
    maps, masks = grid(3)
    labels = metrics.regions(masks)
    up, down = metrics.pixel_metrics(maps, labels), metrics.pixel_metrics(-maps, labels)
    assert up["pixel_auroc"] + down["pixel_auroc"] == pytest.approx(1, abs=1e-12)


def test_scores_far_from_zero_to_one_are_not_squashed():
    maps, masks = grid(6)
    near, far = (metrics.image_metrics(s.ravel(), masks.ravel()) for s in (maps, maps * 20 + 900))
    assert far == pytest.approx(near, abs=1e-12)


def test_constant_scores():
    maps, masks = np.full((2, 5, 5), 0.7), np.zeros((2, 5, 5), bool)
    masks[0, 1, 1:3] = True
    ours = metrics.pixel_metrics(maps, metrics.regions(masks))
    expected = {"pixel_auroc": 0.5, "pixel_ap": 0.04, "pixel_f1max": 4 / 52, "aupro": 0.15, "aupro_small": 0.15}
    assert ours == pytest.approx(expected | {"aupro_middle": NAN, "aupro_large": NAN}, nan_ok=True)


@pytest.mark.parametrize("kind", ["float16", "float32", "float64", "int8", "int32", "int64", "uint8", ">f4"])
def test_every_type_of_score_is_ranked_exactly(kind):
    maps, masks = grid(7, 50)
    labels = metrics.regions(masks)
    of_type = metrics.pixel_metrics(maps.astype(kind), labels)
    assert of_type == pytest.approx(metrics.pixel_metrics(maps, labels), abs=1e-12, nan_ok=True)


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
    truth = metrics.regions(masks)
    tensor = torch.from_numpy(maps).to(kind)
    assert metrics.pixel_metrics(tensor, truth) == metrics.pixel_metrics(maps, truth)
    image = metrics.image_metrics(tensor.reshape(-1), torch.from_numpy(masks).reshape(-1))
    assert image == metrics.image_metrics(maps.ravel(), masks.ravel())


def test_scores_and_labels_are_left_as_they_were():
    maps, masks = grid(9)
    truth, kept = metrics.regions(masks), maps.copy()
    before = truth.pixel.copy(), truth.region.copy()
    ours = metrics.pixel_metrics(maps, truth)
    by_torch(metrics.pixel_metrics, maps, truth)
    aupimo.aupimo(maps, truth)
    assert (maps == kept).all()
    assert (truth.pixel == before[0]).all() and (truth.region == before[1]).all()
    assert metrics.pixel_metrics(kept, truth, overwrite=True) == ours
    assert (kept.ravel() == np.sort(maps, axis=None)).all(), "sorted in place, so that there is no second copy"


def test_tensors_that_require_grad_are_read():
    scores = torch.tensor([0.1, 0.9], requires_grad=True)
    assert metrics.image_metrics(scores, torch.tensor([0, 1]))["image_auroc"] == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("levels", [None, 5])
def test_cuda_tensors_give_the_numbers_of_numpy(levels):
    maps, masks = grid(10, levels)
    truth = metrics.regions(masks)
    there = torch.from_numpy(maps).cuda()
    assert metrics.pixel_metrics(there, truth) == pytest.approx(
        metrics.pixel_metrics(maps, truth), abs=1e-9, nan_ok=True
    )
    assert aupimo.aupimo(there, truth) == pytest.approx(aupimo.aupimo(maps, truth), abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("xp", [np, torch])
def test_one_class(xp):
    maps, nothing = np.random.default_rng(0).normal(size=(2, 4, 4)), np.zeros((2, 4, 4), bool)
    of = metrics.pixel_metrics if xp is np else lambda *arguments: by_torch(metrics.pixel_metrics, *arguments)
    ours = of(maps, metrics.regions(nothing))
    assert all(math.isnan(value) for value in ours.values())
    ours = of(maps, metrics.regions(~nothing))
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
        run = metrics.image_metrics if xp is np else lambda *given: by_torch(metrics.image_metrics, *given)
        run(scores, labels)


def test_other_bad_input():
    maps, masks = grid(1)
    truth = metrics.regions(masks)
    for function in (metrics.pixel_metrics, aupimo.aupimo):
        with pytest.raises(ValueError, match="they differ"):
            function(maps[:, 1:], truth)
    with pytest.raises(ValueError, match="they differ"):
        metrics.image_metrics([1.0, 2.0], [1])
    with pytest.raises(ValueError, match=r"must lie in 0\.\.1"):
        metrics.image_metrics([1.0, 2.0], [0, 2])
    with pytest.raises(ValueError, match=r"must lie in 0\.\.1"):
        metrics.image_metrics([1.0, 2.0], [-1, 1])
    for limit in (0, -0.3, 1.1, NAN):
        with pytest.raises(ValueError, match="fpr_limit"):
            metrics.pixel_metrics(maps, truth, fpr_limit=limit)
    with pytest.raises(ValueError, match="masks have shape"):
        metrics.regions(masks[0])


@pytest.mark.parametrize("seed", range(5))
def test_regions_are_eight_connected_within_an_image(seed):
    _, masks = grid(seed)
    truth, found = metrics.regions(masks), flood(masks)
    assert (truth.pixel == np.flatnonzero(masks)).all() and (truth.image == np.nonzero(masks)[0]).all()
    labels = np.full(masks.shape, -1)
    labels.flat[truth.pixel] = truth.region
    assert sorted({*labels[region]}.pop() for region in found) == list(range(len(truth.size)))
    assert all(len({*labels[region]}) == 1 for region in found)
    assert [truth.size[labels[region][0]] for region in found] == [len(region[1]) for region in found]


def test_names():
    masks = np.eye(4, dtype=bool)[None]
    names = *metrics.image_metrics([0.0, 1.0], [0, 1]), *metrics.pixel_metrics(masks * 1.0, metrics.regions(masks))
    assert names == summarised() + metrics.AUPRO_BY_SIZE
    assert metrics.METRIC_VERSION == 1


def test_torch_is_not_imported():
    code = "import sys; from bench.metrics import aupimo, matrix, thresholds, ranking; "
    code += "ranking.image_metrics([0.0, 1.0], [0, 1]); "
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
