"""Seconds for all seven metrics of 4 to 8 M pixels beside scikit-learn with anomalib, adeval and one plain sort.

    python tests/benchmarks/bench_metrics.py [--repeats 5] [--device cuda] [--sizes 256 1024]

Ratios are what counts: the others' seconds over ours, in one process on one CPU thread. `adeval` (approximate: 1,000
strips, no F1-max) is timed where it is installed. Defects grow with the size of the image, as they do in photographs.
"""

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import time

import numpy as np
import torch
from scipy import ndimage

from bench.metrics import ranking as metrics
from bench.metrics.aupimo import aupimo
from bench.schema.metric import summarised


def images(share, count=60, size=256, seed=0):
    """Smooth noise as maps, raised inside blobs that cover about `share` of the pixels of two images in three."""
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.normal(size=(count, 256, 256)), (0, 12, 12))
    field = field.repeat(size // 256, 1).repeat(size // 256, 2)
    masks = field > np.quantile(field, 1 - 1.5 * share)
    masks[: count // 3] = False
    maps = ndimage.gaussian_filter(rng.normal(size=masks.shape), (0, 4, 4)) * 8 + masks
    return maps.astype(np.float32), masks


def ours(maps, regions, image_labels):
    scores = maps.reshape(len(maps), -1).max(1)
    scores = scores if isinstance(scores, np.ndarray) else scores.values
    return metrics.image_metrics(scores, image_labels) | metrics.pixel_metrics(maps, regions)


def scikit_learn(scores, truth):
    from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

    precision, recall, _ = precision_recall_curve(truth, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)
    return roc_auc_score(truth, scores), average_precision_score(truth, scores), f1.max()


def anomalib_aupro(maps, masks):
    from anomalib.metrics.aupro import _AUPRO

    metric = _AUPRO(fpr_limit=0.3)
    metric.update(torch.from_numpy(maps), torch.from_numpy(masks))
    return metric.compute().item()


def theirs(maps, masks, image_labels):
    image = scikit_learn(maps.reshape(len(maps), -1).max(1), image_labels)
    values = *image, *scikit_learn(maps.ravel(), masks.ravel()), anomalib_aupro(maps, masks)
    return dict(zip(summarised(), values, strict=True))


def adeval(maps, masks, image_labels):
    from adeval import EvalAccumulator

    if not hasattr(np, "trapz"):
        np.trapz = np.trapezoid  # adeval 1.1.0 calls the name that NumPy 2.4 removed
    low, high = float(maps.min()), float(maps.max())
    accumulator = EvalAccumulator(low, high, low, high)
    for one, mask, label in zip(maps, masks, image_labels, strict=True):
        accumulator.add_anomap(one, mask.astype(np.uint8))
        accumulator.add_image(float(one.max()), int(label))
    return accumulator.summary()


def timed(function, repeats, clock=time.process_time):
    """(best seconds of `repeats`, result); the first call, which pays for imports, is not counted.

    Seconds are the processor's, which other programs disturb less than those of a clock.
    """
    result = function()
    seconds = []
    for _ in range(repeats):
        start = clock()
        result = function()
        seconds.append(clock() - start)
    return min(seconds), result


def compare(size, count, share, repeats, device):
    maps, masks = images(share, count, size)
    image_labels = masks.any((1, 2))
    once, regions = timed(lambda: metrics.regions(masks), 1)
    rows = {
        "this project, NumPy": timed(lambda: ours(maps, regions, image_labels), repeats),
        "one np.sort of all pixels": timed(lambda: np.sort(maps, axis=None), repeats),
        "scikit-learn + anomalib": timed(lambda: theirs(maps, masks, image_labels), 1),
    }
    if device != "cpu":
        there = torch.from_numpy(maps).to(device)
        rows[f"this project, tensors on {device}"] = timed(
            lambda: ours(there, regions, image_labels), repeats, time.perf_counter
        )
    try:
        rows["adeval (approximate)"] = timed(lambda: adeval(maps, masks, image_labels), max(1, repeats // 2))
    except ImportError:
        print("adeval is not installed")
    rows["AUPIMO besides"] = timed(lambda: aupimo(maps, regions), repeats)
    print(f"\n{size} px, {maps.size / 1e6:.1f} M pixels, {masks.mean():.1%} anomalous in {len(regions.size)} regions")
    base = rows["this project, NumPy"][0]
    for name, (seconds, _) in rows.items():
        print(f"  {name:34} {seconds:8.3f} s   {seconds / base:7.2f}")
    print(f"  {'regions, once per data set':34} {once:8.3f} s   {once / base:7.2f}")
    values, expected = rows["this project, NumPy"][1], rows["scikit-learn + anomalib"][1]
    worst = {name: abs(values[name] - expected[name]) for name in summarised()}
    print("  differences:", ", ".join(f"{name} {difference:.1e}" for name, difference in worst.items()), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 1024], help="multiples of 256")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for size in options.sizes:
        for share in (0.005, 0.03, 0.1):
            compare(size, {256: 60, 1024: 8}.get(size, 8), share, options.repeats, options.device)
