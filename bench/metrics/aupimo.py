"""AUPIMO: how much of each anomalous image is found before hardly any pixel of the normal images is.

Bertoldo et al., AUPIMO: Redefining Visual Anomaly Detection Benchmarks with High Speed and Low Tolerance,
arXiv:2401.01984; anomalib's `AUPIMO` is the same curve at evenly spaced thresholds.
"""

import math

import numpy as np

from bench.metrics.ranking import Regions, _anomalous, _blocks, _cast, _flat, _under_ramp

FPR_BOUNDS = (1e-5, 1e-4)


def aupimo(maps, regions: Regions, bounds: tuple[float, float] = FPR_BOUNDS) -> np.ndarray:
    """(N,) float64: for each image of `maps` (N, H, W) the mean of its overlap over the logarithm of the shared rate.

    The overlap of an image is the share of its anomalous pixels at or above a threshold. The shared rate is the share
    of the pixels of all *normal* images at or above it, between `bounds`; with a point at every distinct score and
    straight lines over the logarithm between points. NaN for normal images, and for all where the normal images have
    too few pixels to tell the upper bound from 0; below 1 / lower bound pixels the lower end of the curve is one step.
    """
    low, high = bounds
    if not 0 < low < high <= 1:
        raise ValueError(f"bounds are {bounds}; they must rise within (0, 1]")
    if tuple(np.shape(maps)) != regions.shape:
        raise ValueError(f"maps have shape {tuple(np.shape(maps))}, masks {regions.shape}; they differ")
    count = regions.shape[0]
    values, pixels = np.full(count, np.nan), np.bincount(regions.image, minlength=count)
    normal, anomalous = np.flatnonzero(pixels == 0), np.flatnonzero(pixels)
    normals = len(normal) * regions.shape[1] * regions.shape[2]
    if not len(anomalous) or normals * high < 1:
        return values
    xp, top = _highest([maps[image] for image in normal], math.ceil(normals * high))
    scores, image = _anomalous(xp, _flat(maps)[1], regions.pixel, regions.image.astype(np.int32))
    first = int(xp.searchsorted(scores, top[:1])[0])  # a pixel below the highest normal ones is found too late
    scores, image = scores[first:], image[first:]
    everything = xp.sort(xp.concatenate([top, scores]))
    if xp is not np:
        everything = everything.values
    found = np.zeros(count)
    for start, stop, copies, below, upto in _blocks(xp, everything, scores) if len(scores) else ():
        own_upto = xp.cumsum(copies, 0) + start
        reached = len(top) - (below - (own_upto - copies))  # normal pixels that are no lower
        above = len(top) - (upto - own_upto)  # higher; without any, there is no point to draw a line from
        ends = [_cast(xp, n, xp.float64).clip(min=1) / (normals * low) for n in (above, reached)]
        ends = [xp.log(rate) / math.log(high / low) for rate in ends]
        end = xp.where(reached > 0, ends[1], 0.0)  # found at every rate
        begin = xp.where(above > 0, ends[0], end)
        share = _under_ramp(xp, begin, end, 1.0) - _under_ramp(xp, begin, end, 0.0)
        share = share.repeat(copies) if xp is np else share.repeat_interleave(copies)
        here = image[start:stop]
        if xp is not np:
            share, here = share.cpu().numpy(), here.cpu().numpy()
        found += np.bincount(here, share, minlength=count)
    values[anomalous] = found[anomalous] / pixels[anomalous]
    return values


def _highest(images, count: int):
    """(module, the `count` highest scores of all images and all that tie with the lowest of them, ascending)."""
    top, floor = [], -math.inf
    for image in images:  # never a copy of all of them
        xp, scores = _flat(image)
        top = xp.concatenate([*top, scores[scores >= floor]])
        if len(top) > count:
            floor = np.partition(top, -count)[-count] if xp is np else top.topk(count).values[-1]
        top = [top[top >= floor]]
    return xp, (np.sort(top[0]) if xp is np else top[0].sort().values)
