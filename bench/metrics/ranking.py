"""Exact AUROC, AP, F1-max and AUPRO of images and pixels from one sort, in NumPy or torch."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

AUPRO_BY_SIZE = ("aupro_small", "aupro_middle", "aupro_large")
METRIC_VERSION = 1

NAN = float("nan")
TINY = float(np.finfo(np.float64).tiny)
BLOCK = 4096  # anomalous scores that are looked up together on a CPU: their neighbourhood stays in the cache
DEVICE_BLOCK = 2**22  # on a GPU, where a call costs more than its work


@dataclass(frozen=True)
class Regions:
    """The connected defects of the masks (N, H, W) of a class; only the anomalous pixels are held."""

    shape: tuple[int, int, int]  # of the masks
    pixel: np.ndarray  # (M,) int64, places of the anomalous pixels in the flat masks, ascending
    region: np.ndarray  # (M,) int32, the defect that each belongs to, 0..count-1
    size: np.ndarray  # (count,) int64, pixels of each defect

    @property
    def image(self) -> np.ndarray:
        """(M,) int64, the image of each anomalous pixel."""
        return self.pixel // (self.shape[1] * self.shape[2])

    @property
    def third(self) -> np.ndarray:
        """(count,) int64: 0 small, 1 middle, 2 large. Cut at the terciles of size; equal sizes stay together."""
        cuts = np.quantile(self.size, (1 / 3, 2 / 3), method="inverted_cdf") if len(self.size) else np.zeros(2)
        return np.searchsorted(cuts, self.size)


def regions(masks) -> Regions:
    """Find the connected defects of boolean `masks` (N, H, W).

    Eight-connected within an image, never across images, numbered over the whole set. The masks of a data set do not
    change, so call this once and keep the result.
    """
    from scipy import ndimage

    if np.ndim(masks) != 3:
        raise ValueError(f"masks have shape {np.shape(masks)}; (N, H, W) is needed")
    count, pixel, region = 0, [np.zeros(0, np.int64)], [np.zeros(0, np.int32)]
    for place, mask in enumerate(masks):
        mask = np.asarray(mask, bool)
        if mask.any():
            labels, found = ndimage.label(mask, np.ones((3, 3), bool), output=np.int32)
            here = np.flatnonzero(mask)
            pixel.append(here + place * mask.size)
            region.append(labels.ravel()[here] + np.int32(count - 1))
            count += found
    region = np.concatenate(region)
    return Regions(tuple(np.shape(masks)), np.concatenate(pixel), region, np.bincount(region, minlength=count))


def image_metrics(scores, labels):
    """{"image_auroc", "image_ap", "image_f1max"} of `scores` (N,), higher = more anomalous, and `labels` (N,) 0/1.

    AUROC counts ties half (Mann-Whitney U); AP is the step sum Σ (R_k - R_{k-1}) P_k; F1-max is the best F1 over all
    thresholds. AUROC is NaN unless both classes are present, AP and F1-max are NaN without an anomalous image.
    Arrays or tensors of any real type. Raises ValueError on shapes that differ and on NaN or infinite scores.
    """
    torch = sys.modules.get("torch")  # a caller without torch has no tensors, and need not pay for its import
    labels = np.asarray(labels.cpu() if torch and isinstance(labels, torch.Tensor) else labels)
    if np.shape(scores) != labels.shape:
        raise ValueError(f"scores have shape {tuple(np.shape(scores))}, labels {labels.shape}; they differ")
    if labels.size and not 0 <= labels.min() <= labels.max() <= 1:
        raise ValueError(f"labels run from {labels.min()} to {labels.max()}; they must lie in 0..1")
    found = np.flatnonzero(labels)
    xp, scores = _flat(scores)
    auroc, ap, f1max, _ = _metrics(xp, _sort(xp, scores), *_anomalous(xp, scores, found, found))
    return {"image_auroc": auroc, "image_ap": ap, "image_f1max": f1max}


def pixel_metrics(maps, regions: Regions, fpr_limit=0.3, *, overwrite=False):
    """{"pixel_auroc", "pixel_ap", "pixel_f1max", "aupro", and `AUPRO_BY_SIZE`} of anomaly `maps` (N, H, W).

    AUPRO is the area under the curve of per-region overlap, averaged over regions, against the false-positive rate
    over all normal pixels, with a point at every distinct score, straight lines between points, cut at `fpr_limit` and
    divided by it (Bergmann et al., CVPR 2019 and IJCV 2021). By size it is averaged over a third of the regions
    (`Regions.third`) alone. The others, NaN and errors: see `image_metrics`. CUDA tensors are ranked where they lie;
    the floats come back. With `overwrite` the maps, which must be contiguous, are sorted in place, and no second copy
    of them is made.
    """
    if not 0 < fpr_limit <= 1:
        raise ValueError(f"fpr_limit is {fpr_limit}; it must lie in (0, 1]")
    if tuple(np.shape(maps)) != regions.shape:
        raise ValueError(f"maps have shape {tuple(np.shape(maps))}, masks {regions.shape}; they differ")
    xp, maps = _flat(maps)
    anomalous = _anomalous(xp, maps, regions.pixel, regions.region)
    each, third = 1 / regions.size, regions.third  # what a pixel weighs in the mean over regions
    auroc, ap, f1max, by_third = _metrics(
        xp, _sort(xp, maps, overwrite), *anomalous, weights=each, groups=third, fpr_limit=fpr_limit
    )
    areas, counts = [sum(by_third), *by_third], [len(each), *np.bincount(third, minlength=3)]
    aupros = [float(area / count) / fpr_limit if count else NAN for area, count in zip(areas, counts, strict=True)]
    values = dict(zip(("aupro", *AUPRO_BY_SIZE), aupros, strict=True))
    return {"pixel_auroc": auroc, "pixel_ap": ap, "pixel_f1max": f1max, **values}


def _flat(scores):
    """(module, flat scores) in a float type that holds every value exactly."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(scores, torch.Tensor):
        return np, _floating(np, np.asarray(scores)).ravel()
    scores = _floating(torch, scores.detach()).reshape(-1)
    # np.sort of keys alone is some 20 times faster on a CPU than torch.sort; the memory is shared, not copied
    return (np, scores.numpy()) if scores.device.type == "cpu" else (torch, scores)


def _floating(xp, scores):
    if scores.dtype in (xp.float32, xp.float64):
        return scores
    return _cast(xp, scores, xp.float32 if scores.dtype.itemsize <= 2 else xp.float64)


def _cast(xp, values, dtype):
    return values.astype(dtype) if xp is np else values.to(dtype)


def _sort(xp, scores, overwrite=False):
    """All scores ascending; ValueError naming how many are NaN or infinite."""
    if xp is not np:
        ordered = xp.sort(scores).values
    elif overwrite:
        ordered = scores
        ordered.sort()
    else:
        ordered = np.sort(scores)
    if len(ordered) and not -math.inf < float(ordered[0]) <= float(ordered[-1]) < math.inf:  # NaN sorts last
        bad = int((~(abs(ordered) < math.inf)).sum())
        raise ValueError(f"{bad} of {len(ordered)} scores are NaN or infinite; a ranking needs finite scores")
    return ordered


def _anomalous(xp, scores, places, region):
    """The scores at `places` in ascending order, and `region` (one number each, below 2**32) in the same order."""
    if xp is not np:
        order = xp.sort(scores[xp.from_numpy(places).to(scores.device)])
        return order.values, xp.from_numpy(region).to(scores.device)[order.indices]
    scores = scores[places]
    if scores.dtype == np.float64:
        order = np.argsort(scores)
        return scores[order], region[order]
    # Keys alone sort faster than indices: the bits of the float, turned into a number that sorts like it, and below
    # them the region. Adding 0 makes one zero of two.
    bits = (scores + np.float32(0)).view(np.uint32)
    sign = np.uint32(1 << 31)
    keys = np.where(bits & sign, ~bits, bits | sign).astype(np.uint64)
    keys <<= np.uint64(32)
    keys |= region.astype(np.uint64)
    keys.sort()
    region = keys.astype(np.uint32).view(np.int32)  # the lower half
    keys >>= np.uint64(32)
    bits = keys.astype(np.uint32)
    return np.where(bits & sign, bits ^ sign, ~bits).view(np.float32), region


def _metrics(xp, everything, anomalous, region, weights=None, groups=None, fpr_limit=1.0):
    """(auroc, ap, f1max, areas): `everything` and `anomalous` are all scores and the anomalous among them, ascending.

    `areas` holds, for each of three `groups` (one of 0..2 per region), the sum over its anomalous scores of what each
    adds to the area under the overlap curve up to `fpr_limit`, times the weight of its region; zeros without `weights`.

    AUROC, AP and AUPRO are means, F1-max a maximum, over the anomalous scores. A threshold at a normal score moves
    neither recall nor overlap: it cannot raise F1, and on the overlap curve it is a point of a horizontal line. So the
    few anomalous scores are looked up among all, block by block, and their ranks among themselves are taken off.
    """
    positives, normals = len(anomalous), len(everything) - len(anomalous)
    if not positives:
        return NAN, NAN, NAN, [NAN] * 3
    if xp is not np and weights is not None:
        weights, groups = (xp.from_numpy(values).to(anomalous.device) for values in (weights, groups))
    pairs, precisions, f1max, areas = 0.0, 0.0, 0.0, np.zeros(3)
    for first, last, copies, below, upto in _blocks(xp, everything, anomalous):
        each = _cast(xp, copies, xp.float64)
        own_upto = xp.cumsum(each, 0) + first
        own_below = own_upto - each
        tp = positives - own_below
        fp = own_below + normals - below  # normal scores that are no lower
        fp_above = own_upto + normals - upto  # higher
        pairs += float((each * (fp + fp_above)).sum())
        rejected = tp + fp
        precisions += float((each * tp / rejected).sum())
        f1max = max(f1max, 2 * float((tp / (rejected + positives)).max()))
        if weights is not None and normals:
            area = _under_ramp(xp, fp_above, fp, fpr_limit * normals)
            if len(area) < last - first:
                area = area.repeat(copies) if xp is np else area.repeat_interleave(copies)
            here = region[first:last]
            shares, its = area * weights[here], groups[here]
            if xp is np:
                areas += np.bincount(its, shares, 3)
            else:  # whose bincount is not deterministic
                areas += np.array([float(shares[its == group].sum()) for group in range(3)])
    if not normals:
        return NAN, precisions / positives, f1max, [NAN] * 3
    return 1 - pairs / (2 * positives * normals), precisions / positives, f1max, (areas / normals).tolist()


def _blocks(xp, everything, anomalous):
    """Yield (first, last, copies, below, upto) of each block of `anomalous` scores; equal scores share a block.

    For each distinct score of `anomalous[first:last]`: how many are equal to it, and how many of `everything` lie
    below it, and below or level.
    """
    size = BLOCK if xp is np else DEVICE_BLOCK
    heads = anomalous[::size] + 0  # contiguous
    firsts, lows = (xp.searchsorted(ordered, heads).tolist() for ordered in (anomalous, everything))
    edges = [*dict(zip(firsts, lows, strict=True)).items(), (len(anomalous), len(everything))]
    for (first, low), (last, high) in pairwise(edges):
        scores, among = anomalous[first:last], everything[low:high]
        if xp is np and scores.dtype == np.float32 and among[0] > 0:
            scores, among = scores.view(np.int32), among.view(np.int32)  # sorted alike, and compared faster
        new = xp.ones_like(scores, dtype=bool)
        new[1:] = scores[1:] != scores[:-1]
        starts = xp.where(new)[0]
        distinct = scores[starts]
        copies = xp.empty_like(starts)
        copies[:-1] = starts[1:] - starts[:-1]
        copies[-1] = last - first - starts[-1]
        below = xp.searchsorted(among, distinct)
        upto = below + copies
        # `everything` holds each score at least `copies` times: only where it holds more, a second search is needed
        more = xp.where(among[upto.clip(max=len(among) - 1)] == distinct)[0]
        upto[more] = xp.searchsorted(among, distinct[more], side="right")
        yield first, last, copies, below + low, upto + low


def _under_ramp(xp, start, end, x):
    """Area up to `x` under a line that rises from 0 at `start` to 1 at `end` and stays there (a step if equal).

    It is what an anomalous pixel adds to its region's overlap curve: as the false-positive rate grows, the pixel is
    found between the rates with the threshold just above (`start`) and just below its score (`end`), which differ
    where normal pixels tie with it.
    """
    left, right = start.clip(max=x), end.clip(max=x)
    width = (end - start).clip(min=TINY)  # of a step nothing lies under the ramp
    return x - right + (right - left) ** 2 / (2 * width)


def pooled_pixel_auroc(maps, regions) -> float:
    """AUROC of the pixels of several classes in one ranking, as one line with one threshold would have them.

    `maps` gives the maps (N, H, W) of each class by its index, and `regions` (a sequence) its defects. Every class is
    asked for twice, one at a time, and what is given is sorted in place: never two of them, nor a copy, lie in memory.
    NaN and errors: see `image_metrics`.
    """
    count = len(regions)
    anomalous = [_at(maps(index), regions[index].pixel) for index in range(count)]
    xp = np if isinstance(anomalous[0], np.ndarray) else sys.modules["torch"]
    anomalous = _sort(xp, xp.concatenate(anomalous))
    positives, total, pairs = len(anomalous), 0, 0
    for index in range(count):
        size, ranks = _ranks(maps(index), anomalous)
        total += size
        pairs += 2 * positives * size - ranks
    normals = total - positives
    if not positives or not normals:
        return NAN
    pairs -= positives**2  # of anomalous scores among themselves: each of two is once no lower, or both are half
    return 1 - pairs / (2 * positives * normals)


def _at(maps, places):
    """The scores at `places` in the flat maps."""
    xp, scores = _flat(maps)
    return scores[places if xp is np else xp.from_numpy(places).to(scores.device)]


def _ranks(maps, scores) -> tuple[int, int]:
    """(how many pixels `maps` have, how many of them lie below each of `scores` (ascending) plus below or level, summed
    up). Sorts the maps in place."""
    xp, flat = _flat(maps)
    ordered, found = _sort(xp, flat, overwrite=True), 0
    size = BLOCK if xp is np else DEVICE_BLOCK
    lows = xp.searchsorted(ordered, scores[::size] + 0).tolist()
    for index, low in enumerate(lows):
        some = scores[index * size : (index + 1) * size]
        among = ordered[low : int(xp.searchsorted(ordered, some[-1:], side="right")[0])]
        ranks = xp.searchsorted(among, some) + xp.searchsorted(among, some, side="right")
        found += int(ranks.sum()) + 2 * low * len(some)
    return len(ordered), found
