"""Exact AUROC, AP, F1-max and AUPRO of images and pixels from one sort, in NumPy or torch."""

from __future__ import annotations

import sys

import numpy as np

METRICS = ("image_auroc", "image_ap", "image_f1max", "pixel_auroc", "pixel_ap", "pixel_f1max", "aupro")
METRIC_VERSION = 1
HIGHER_IS_BETTER = dict.fromkeys(METRICS, True)

NAN = float("nan")


def regions(masks):
    """Number the connected defects of boolean `masks` (N, H, W): (labels (N, H, W) int32 with 0 = normal, count).

    Eight-connected within an image, never across images; the numbers run 1..count over the whole set. The masks of a
    data set do not change, so call this once and keep the result.
    """
    from scipy import ndimage

    masks = np.asarray(masks, bool)
    if masks.ndim != 3:
        raise ValueError(f"masks have shape {masks.shape}; (N, H, W) is needed")
    eight = np.zeros((3, 3, 3), bool)
    eight[1] = True  # neighbours in the same image only
    labels, count = ndimage.label(masks, eight, output=np.int32)
    return labels, int(count)


def image_metrics(scores, labels):
    """{"image_auroc", "image_ap", "image_f1max"} of `scores` (N,), higher = more anomalous, and `labels` (N,) 0/1.

    AUROC counts ties half (Mann-Whitney U); AP is the step sum Σ (R_k - R_{k-1}) P_k; F1-max is the best F1 over all
    thresholds. AUROC is NaN unless both classes are present, AP and F1-max are NaN without an anomalous image.
    Arrays or tensors of any real type. Raises ValueError on shapes that differ and on NaN or infinite scores.
    """
    xp, scores, labels = _arrays(scores, labels)
    auroc, ap, f1max, _ = _metrics(xp, scores, labels, 1, None)
    return {"image_auroc": auroc, "image_ap": ap, "image_f1max": f1max}


def pixel_metrics(maps, labels, count, fpr_limit=0.3):
    """{"pixel_auroc", "pixel_ap", "pixel_f1max", "aupro"} of anomaly `maps` (N, H, W) and the defects' `regions`.

    `labels` (N, H, W) and `count` come from `regions`; they may be those of a larger set, cut to these images: only
    regions that are present count. AUPRO is the area under the curve of per-region overlap, averaged over regions,
    against the false-positive rate over all normal pixels, with a point at every distinct score, straight lines
    between points, cut at `fpr_limit` and divided by it (Bergmann et al., CVPR 2019 and IJCV 2021). The others, NaN
    and errors: see `image_metrics`. CUDA tensors are ranked where they lie; the floats come back.
    """
    if not 0 < fpr_limit <= 1:
        raise ValueError(f"fpr_limit is {fpr_limit}; it must lie in (0, 1]")
    xp, maps, labels = _arrays(maps, labels)
    auroc, ap, f1max, aupro = _metrics(xp, maps, labels, count, fpr_limit)
    return {"pixel_auroc": auroc, "pixel_ap": ap, "pixel_f1max": f1max, "aupro": aupro}


def threshold_metrics(scores, labels, threshold):
    """{"f1", "false_alarm", "precision", "recall"} when every image that scores above `threshold` is rejected.

    `scores` (N,), `labels` (N,) 0/1. A score equal to the threshold passes, so a threshold at the 95th percentile of
    normal scores rejects at most 5 % of them, ties included. `false_alarm` is the share of normal images rejected.
    NaN where a ratio has no cases: precision when nothing is rejected, f1 and recall without anomalous images.
    """
    if not np.isfinite(threshold):
        raise ValueError(f"the threshold is {threshold}; it must be finite")
    _, scores, labels = _arrays(scores, labels)
    rejected, anomalous = scores > threshold, labels > 0
    _require_finite(scores)
    _require_labels(labels, 1)
    hits, total, positives = int((rejected & anomalous).sum()), int(rejected.sum()), int(anomalous.sum())
    return {
        "f1": _ratio(2 * hits, total + positives) if positives else NAN,
        "false_alarm": _ratio(total - hits, len(labels) - positives),
        "precision": _ratio(hits, total),
        "recall": _ratio(hits, positives),
    }


def _ratio(part, whole):
    return part / whole if whole else NAN


def _arrays(scores, labels):
    """(module, scores, labels), flat and on one device; `scores` in a float type that holds every value exactly."""
    torch = sys.modules.get("torch")  # a caller without torch has no tensors, and need not pay for its import
    if tuple(np.shape(scores)) != tuple(np.shape(labels)):
        raise ValueError(f"scores have shape {tuple(np.shape(scores))}, labels {tuple(np.shape(labels))}; they differ")
    if torch is None or not isinstance(scores, torch.Tensor):
        return np, _floating(np, np.asarray(scores)).ravel(), np.asarray(labels).ravel()
    scores = _floating(torch, scores.detach()).reshape(-1)
    labels = torch.as_tensor(labels).reshape(-1)
    if scores.device.type != "cpu":
        return torch, scores, labels.to(scores.device)
    # np.sort of keys alone is some 20 times faster on a CPU than torch.sort; the memory is shared, not copied
    return np, scores.cpu().numpy(), labels.cpu().numpy()


def _floating(xp, scores):
    if scores.dtype in (xp.float32, xp.float64):
        return scores
    return _cast(xp, scores, xp.float32 if scores.dtype.itemsize <= 2 else xp.float64)


def _cast(xp, values, dtype):
    return values.astype(dtype) if xp is np else values.to(dtype)


def _sort(xp, values):
    return np.sort(values) if xp is np else xp.sort(values).values


def _require_finite(scores):
    """Raise ValueError naming how many of `scores` are NaN or infinite."""
    bad = int((~(abs(scores) < float("inf"))).sum())
    if bad:
        raise ValueError(f"{bad} of {len(scores)} scores are NaN or infinite; a ranking needs finite scores")


def _require_labels(found, count):
    if len(found) and (int(found.min()) < 0 or int(found.max()) > count):
        raise ValueError(f"labels run from {int(found.min())} to {int(found.max())}; they must lie in 0..{count}")


def _metrics(xp, scores, labels, count, fpr_limit):
    """(auroc, ap, f1max, aupro or NaN if `fpr_limit` is None) of flat `scores`; label 0 = normal, 1..count = region.

    AUROC, AP and AUPRO are means, F1-max a maximum, over the anomalous scores. A threshold at a normal score moves
    neither recall nor overlap: it cannot raise F1, and on the overlap curve it is a point of a horizontal line.
    """
    found = xp.where(labels != 0)[0]
    region = labels[found]
    _require_labels(region, count)
    which, copies, tp, fp, fp_above = _counts(xp, scores, found)
    positives, normals = len(found), len(scores) - len(found)
    if not positives:
        return NAN, NAN, NAN, NAN
    ap = float((copies * tp / (tp + fp)).sum()) / positives
    f1max = float((2 * tp / (tp + fp + positives)).max())
    if not normals:
        return NAN, ap, f1max, NAN
    auroc = 1 - float((copies * (fp + fp_above)).sum()) / (2 * positives * normals)
    if fpr_limit is None:
        return auroc, ap, f1max, NAN
    area = _ramp_area(xp, fp_above / normals, fp / normals, fpr_limit)
    return auroc, ap, f1max, _region_mean(xp, area[which], region) / fpr_limit


def _counts(xp, scores, found):
    """Counts at every distinct score v of the anomalous ones, which are at the indices `found`.

    Returns (index of each anomalous score's v, anomalous scores equal to v, anomalous ones >= v, normal ones >= v,
    normal ones > v). Only ranks are needed, and normal scores are many: so all scores are sorted once, keys only, the
    few anomalous ones are looked up there, and their ranks among themselves are taken off.
    """
    everything = _sort(xp, scores)
    if len(scores) and not float("-inf") < float(everything[0]) <= float(everything[-1]) < float("inf"):
        _require_finite(scores)  # NaN sorts last, so the two ends show whether to look
    distinct, which, copies = xp.unique(scores[found], return_inverse=True, return_counts=True)
    below, upto = _ranks(xp, everything, distinct, copies)
    own_upto = xp.cumsum(copies, 0)
    own_below = own_upto - copies
    normals = len(scores) - len(found)
    exact = (len(found) - own_below, normals - (below - own_below), normals - (upto - own_upto))
    return which, copies, *(_cast(xp, counts, xp.float64) for counts in exact)


def _ranks(xp, ordered, distinct, copies):
    """How many of `ordered` lie below each of `distinct`, and how many below or level; exact, as float64.

    `ordered` holds every distinct value at least `copies` times. Only where it holds more is a second search needed.
    """
    below = xp.searchsorted(ordered, distinct)
    upto = below + copies
    more = xp.where(ordered[upto.clip(max=len(ordered) - 1)] == distinct)[0]
    upto[more] = xp.searchsorted(ordered, distinct[more], side="right")
    return below, upto


def _ramp_area(xp, start, end, limit):
    """Area up to `limit` under a line that rises from 0 at `start` to 1 at `end` and stays there (a step if equal).

    It is what an anomalous pixel adds to its region's overlap curve: as the false-positive rate grows, the pixel is
    found between the rates with the threshold just above (`start`) and just below its score (`end`), which differ
    where normal pixels tie with it.
    """
    left, right = start.clip(max=limit), end.clip(max=limit)
    width = xp.where(end > start, end - start, xp.ones_like(end))
    return limit - right + (right - left) ** 2 / (2 * width)


def _region_mean(xp, values, region):
    """Mean over the regions present of the mean of `values` (one per anomalous pixel) within each region."""
    size = xp.bincount(region)
    return float((values / size[region]).sum()) / int((size > 0).sum())
