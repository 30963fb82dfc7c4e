"""The figures of one cell, and their mean with a 95 % interval over seeds."""

import math
from collections.abc import Iterable, Sequence
from statistics import NormalDist, fmean
from typing import NamedTuple

import numpy as np

from bench.metrics import matrix
from bench.metrics.statistics import Interval, interval
from bench.schema.cell import CLASS_SHIFT, FEATURES, TIMES, Cell, Cost
from bench.schema.metric import METRICS, summarised

MB = 1e6
QUIET = 0.1  # of the machine's processors: where others use more, wall seconds are not the method's own

# Two-sided 95 % quantiles of Student's t at 1, 2, ... degrees of freedom: importing SciPy for them takes 0.5 s.
T95 = (
    *(12.706205, 4.302653, 3.182446, 2.776445, 2.570582, 2.446912, 2.364624, 2.306004, 2.262157, 2.228139),
    *(2.200985, 2.178813, 2.160369, 2.144787, 2.131450, 2.119905, 2.109816, 2.100922, 2.093024, 2.085963),
)


class Stat(NamedTuple):
    """Mean over `n` seeds with the half width of its 95 % interval; NaN where undefined."""

    mean: float
    half: float
    n: int


def stat(values: Iterable[float]) -> Stat:
    """Student-t interval of the mean. One missing value makes the mean missing: an average of what is left misleads."""
    values = list(values)
    if not values or any(math.isnan(value) for value in values):
        return Stat(math.nan, math.nan, len(values))
    n, mean = len(values), fmean(values)
    if n == 1:
        return Stat(mean, math.nan, 1)
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    return Stat(mean, t95(n - 1) * math.sqrt(variance / n), n)


def t95(freedom: int) -> float:
    """97.5 % quantile of Student's t; above 20 degrees by its expansion (Abramowitz & Stegun 26.7.5), error < 1e-5."""
    if freedom <= len(T95):
        return T95[freedom - 1]
    z = NormalDist().inv_cdf(0.975)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def learned_at(cell: Cell) -> np.ndarray:
    """Step at which each class arrives, (C,)."""
    step_of = {name: step for step, names in enumerate(cell["spec"]["steps"]) for name in names}
    return np.array([step_of[name] for name in cell["spec"]["classes"]])


def classes_of(cell: Cell, metric: str) -> list[str]:
    """The classes that a mean of `metric` is over, in the order of the stream: a pixel metric needs those with masks.

    All of them where none has masks; such a metric is then missing.
    """
    unmasked = cell.get("unmasked", ()) if METRICS[metric].needs_masks else ()
    return [name for name in cell["spec"]["classes"] if name not in unmasked] or cell["spec"]["classes"]


def matrix_of(cell: Cell, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """(R, learned_at) of the classes that `metric` is a mean over, as `bench.metrics.matrix` takes them."""
    classes, over = cell["spec"]["classes"], set(classes_of(cell, metric))
    R = np.array(cell["matrices"].get(metric) or np.full((len(cell["spec"]["steps"]), len(classes)), np.nan), float)
    columns = [column for column, name in enumerate(classes) if name in over]
    return R[:, columns], learned_at(cell)[columns]


def steps_done(cell: Cell) -> int:
    """Steps that the cell has been through; not every one need have been evaluated."""
    return len(cell["cost"].get("train_s") or [])


def final_scores(cell: Cell, metric: str, classes: Sequence[str]) -> list[float]:
    """The last row of R, in the order of `classes`; NaN where the metric was not measured."""
    matrix = cell["matrices"].get(metric)
    last = dict(zip(cell["spec"]["classes"], matrix[-1], strict=True)) if matrix else {}
    return [last.get(name, math.nan) for name in classes]


def interval_of(cells: Sequence[Cell], metric: str) -> Interval:
    """Final average of runs over the same classes, with its bootstrap interval over orders, seeds and classes."""
    classes = sorted(classes_of(cells[0], metric)) if cells else []
    scores = [final_scores(cell, metric, classes) for cell in cells]
    return interval(np.reshape(scores, (len(cells), len(classes))), [cell["spec"]["order"] for cell in cells])


def figures(cell: Cell) -> dict[str, float]:
    """Every scalar of a complete cell by name (the columns of leaderboard.csv); NaN where it was not measured."""
    found = {}
    for metric in summarised():
        R, learned = matrix_of(cell, metric)
        found[f"final_{metric}"] = float(matrix.final_average(R, learned))
        found[f"forgetting_{metric}"] = float(matrix.forgetting(R, learned))
        found[f"plasticity_{metric}"] = float(matrix.plasticity(R, learned))
        found[f"step_average_{metric}"] = float(matrix.step_average(R, learned))
        found[f"bwt_{metric}"] = float(matrix.bwt(R, learned))
    for metric in METRICS.values():
        if metric.shown and not metric.summarised:
            found[f"final_{metric.id}"] = float(matrix.final_average(*matrix_of(cell, metric.id)))
    return found | _deployed(cell) | _cost(cell)


def _deployed(cell: Cell) -> dict[str, float]:
    """What a line would see: one ranking and one threshold for all classes, after the last step."""
    # Older cells set their threshold on images that had been trained on, which says nothing of new ones.
    threshold = cell["threshold"] if cell["spec"].get("holdout") else {}
    return {
        "pooled_image_auroc": _last(cell["pooled"].get("image_auroc")),
        "pooled_pixel_auroc": _last(cell["pooled"].get("pixel_auroc")),
        "threshold_f1": _last(threshold.get("f1")),
        "threshold_precision": _last(threshold.get("precision")),
        "threshold_recall": _last(threshold.get("recall")),
        "false_alarm": _last(threshold.get("false_alarm")),
        "threshold_drift": fmean(threshold_shifts(cell) or [math.nan]),
        "routing_accuracy": _last(cell["routing_accuracy"]),
    }


def _cost(cell: Cell) -> dict[str, float]:
    cost = own_times(cell)
    gpu = cost.get("gpu") or {}
    train, evaluation = _sum(cost.get("train_s")), _sum(cost.get("eval_s"))
    ms = {batch: _number(cost.get("ms_per_image", {}).get(batch)) for batch in ("1", "32")}
    return {
        "train_s": train,
        "train_cpu_s": _sum(cost.get("train_cpu_s")),
        "images_seen": _sum(cost.get("train_images")),
        "eval_s": evaluation,
        "extra_s": _sum(cost.get("extra_s")),
        "evaluation_share": _ratio(evaluation, train + evaluation),
        "train_images_per_s": _ratio(_sum(cost.get("train_images")), train),
        "ms_per_image_1": ms["1"],
        "ms_per_image_32": ms["32"],
        "images_per_s": _ratio(1000.0, ms["32"]),
        "carried_mb": _last(cost.get("carried_bytes")) / MB,
        "detector_mb": _number(cost.get("detector_bytes")) / MB,
        "parameters": _number(cost.get("parameters")),
        "trainable_parameters": _number(cost.get("trainable_parameters")),
        "peak_rss_mb": _number(cost.get("peak_rss_bytes")) / MB,
        "gpu_allocated_mb": _number(gpu.get("allocated_bytes")) / MB,
        "gpu_reserved_mb": _number(gpu.get("reserved_bytes")) / MB,
        "gpu_utilisation": _number(gpu.get("utilisation")),
        "energy_j": _number(gpu.get("energy_j")),
        "cpu_energy_j": _number(cost.get("cpu_energy_j")),
    }


def own_times(cell: Cell) -> Cost:
    """The cost of a cell without the seconds and energy that are not its method's own.

    None are where features were found or kept. Where others used the machine meanwhile, or where nobody looked whether
    they did, those of the processor are, and those of the wall are not. What was handed in says its own.
    """
    cost, kept, quiet = cell["cost"], kept_features(cell), undisturbed(cell)
    if quiet and not kept:
        return cost
    lists = {name: [math.nan] * len(cost[name]) for name in TIMES if name in cost and (kept or name != "train_cpu_s")}
    gpu = cost.get("gpu") and cost["gpu"] | {"utilisation": None, "energy_j": None}
    latency = {} if quiet else {"ms_per_image": {}}  # it is measured without kept features
    return cost | lists | latency | {"gpu": gpu, "cpu_energy_j": None}


def kept_features(cell: Cell) -> bool:
    """Whether it took features of a frozen network from a cache, or wrote some there."""
    return any(images > 0 for name in FEATURES for images in cell["cost"].get(name, ()))


def undisturbed(cell: Cell) -> bool:
    """Whether the machine was the cell's own at every step."""
    shares = cell["cost"].get("others_share")
    return "external" in cell["spec"] or (bool(shares) and all(share <= QUIET for share in shares))


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _last(values: list[float] | None) -> float:
    return float(values[-1]) if values else math.nan


def _sum(values: list[float] | None) -> float:
    return float(sum(values)) if values else math.nan


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def threshold_shifts(cell: Cell) -> list[float]:
    """How far the threshold of each old class, set anew at the end, lies from the one set when the class was new.

    In standard deviations of the normal scores then; none at one step and without hold-out.
    """
    shift = np.array(cell["matrices"].get(CLASS_SHIFT) or [[]], float)[-1]
    last = len(cell["spec"]["steps"]) - 1
    return [float(value) for value, learned in zip(shift, learned_at(cell), strict=False) if learned < last]
