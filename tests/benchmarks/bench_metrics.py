"""Seconds for all seven metrics of 4 M pixels: this project beside scikit-learn and anomalib, in one run.

    python tests/benchmarks/bench_metrics.py [--repeats 5] [--device cuda]

`adeval` (approximate) is timed too where it is installed. One CPU thread, so that the ratio does not depend on cores.
"""

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import time

import numpy as np
import torch
from scipy import ndimage

from bench.metrics import ranking as metrics


def images(share, count=60, size=256, seed=0):
    """Smooth noise as maps, raised inside blobs that cover about `share` of the pixels of two images in three."""
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.normal(size=(count, size, size)), (0, 12, 12))
    masks = field > np.quantile(field, 1 - 1.5 * share)
    masks[: count // 3] = False
    maps = ndimage.gaussian_filter(rng.normal(size=masks.shape), (0, 4, 4)) * 8 + masks
    return maps.astype(np.float32), masks


def ours(maps, labels, count, image_labels):
    scores = maps.reshape(len(maps), -1).max(1)
    scores = scores if isinstance(scores, np.ndarray) else scores.values
    return metrics.image_metrics(scores, image_labels) | metrics.pixel_metrics(maps, labels, count)


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
    return dict(zip(metrics.METRICS, values, strict=True))


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


def timed(function, repeats):
    """(best seconds of `repeats`, result); the first call, which pays for imports, is not counted."""
    result = function()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = function()
        seconds.append(time.perf_counter() - start)
    return min(seconds), result


def torch_path(maps, labels, count):
    """The torch algorithm, also on the CPU, where the public function would hand the tensor to NumPy."""
    return metrics._metrics(torch, maps.reshape(-1), labels.reshape(-1), count, 0.3)


def compare(share, repeats, device):
    maps, masks = images(share)
    image_labels = masks.any((1, 2))
    regions_s, (labels, count) = timed(lambda: metrics.regions(masks), repeats)
    there, labels_there = torch.from_numpy(maps).to(device), torch.from_numpy(labels).to(device)
    label = f"torch tensors, {device}"
    rows = {
        "numpy": timed(lambda: ours(maps, labels, count, image_labels), repeats),
        label: timed(lambda: ours(there, labels_there, count, torch.from_numpy(image_labels)), repeats),
        "torch's own sort (pixel metrics)": timed(lambda: torch_path(there, labels_there, count), 1),
        "scikit-learn + anomalib": timed(lambda: theirs(maps, masks, image_labels), 1),
    }
    try:
        rows["adeval (approximate)"] = timed(lambda: adeval(maps, masks, image_labels), 1)
    except ImportError:
        print("adeval is not installed")
    print(f"\n{maps.size / 1e6:.2f} M pixels, {masks.mean():.1%} anomalous in {count} regions")
    slowest = rows["scikit-learn + anomalib"]
    for name, (seconds, _) in rows.items():
        print(f"  {name:34} {seconds:8.3f} s   {slowest[0] / seconds:7.1f} x faster than scikit-learn + anomalib")
    print(f"  {'regions, once per data set':34} {regions_s:8.3f} s   ", end="")
    print(f"{slowest[0] / (rows['numpy'][0] + regions_s):7.1f} x with numpy and regions together")
    worst = {name: abs(rows["numpy"][1][name] - slowest[1][name]) for name in metrics.METRICS}
    print("  differences:", ", ".join(f"{name} {difference:.1e}" for name, difference in worst.items()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for share in (0.005, 0.03, 0.1):
        compare(share, options.repeats, options.device)
