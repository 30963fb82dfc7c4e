"""The figures of a finished cell: one entry each, and CSV, leaderboard, legend, `show` and report have it."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any, Literal

from bench.analysis.summary import matrix_of, threshold_shifts
from bench.metrics import matrix
from bench.schema.cell import FEATURES, TIMES, Cost
from bench.schema.metric import METRICS, summarised
from bench.schema.record import Record

MB = 1e6
QUIET = 0.1  # of the machine's processors: where others use more, wall seconds are not the method's own


@dataclass(frozen=True)
class Figure:
    """A number of a whole cell, under `id` in leaderboard.csv; NaN: not measured."""

    id: str
    heading: str  # of columns
    # Of a cell and its `own_times`; None: it needs other cells too, `bench.analysis.drift_left` has it.
    value: Callable[[Record, Cost], float] | None
    kind: Literal["score", "percent", "amount"] = "amount"
    higher_is_better: bool = False
    table: Literal["line", "cost"] | None = None  # of the leaderboard: one threshold for all classes, or what it costs
    report: bool = False  # its boards have it too
    of_machine: bool = False  # a mean over different machines means nothing
    meaning: str = ""  # for the leaderboard's legend, where the heading does not say it


def _sum(name: str) -> Callable[[Record, Cost], float]:
    return lambda _, cost: _total(cost, name)


def _total(cost: Cost, name: str) -> float:
    return float(sum(cost.get(name) or [math.nan]))


def _number(name: str, unit: float = 1.0) -> Callable[[Record, Cost], float]:
    return lambda _, cost: _known(cost, name) / unit


def _gpu(name: str, unit: float = 1.0) -> Callable[[Record, Cost], float]:
    return lambda _, cost: _known(cost.get("gpu"), name) / unit


def _latency(batch: str) -> Callable[[Record, Cost], float]:
    return lambda _, cost: _known(cost.get("ms_per_image"), batch)


def _at_threshold(name: str) -> Callable[[Record, Cost], float]:
    # Older cells set their threshold on images that had been trained on, which says nothing of new ones.
    return lambda cell, _: _last(cell["threshold"].get(name)) if cell["spec"].get("holdout") else math.nan


def _pooled(metric: str) -> Callable[[Record, Cost], float]:
    return lambda cell, _: _last(cell["pooled"].get(metric))


def _known(found: Mapping[str, Any] | None, name: str) -> float:
    value = (found or {}).get(name)
    return math.nan if value is None else float(value)


def _last(values: list[float] | None) -> float:
    return float(values[-1]) if values else math.nan


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


_deployed = partial(Figure, table="line", higher_is_better=True)  # after the last step, all classes at once
_cost = partial(Figure, table="cost")
_measured = partial(Figure, table="cost", of_machine=True)

FIGURES = {
    figure.id: figure
    for figure in (
        _deployed("pooled_image_auroc", "pooled image AUROC", _pooled("image_auroc"), "score", report=True),
        _deployed("pooled_pixel_auroc", "pooled pixel AUROC", _pooled("pixel_auroc"), "score"),
        _deployed("threshold_f1", "F1 at threshold", _at_threshold("f1"), "score", report=True),
        _deployed("threshold_precision", "precision", _at_threshold("precision"), "score", report=True),
        _deployed("threshold_recall", "recall", _at_threshold("recall"), "score", report=True),
        Figure("false_alarm", "false alarms", _at_threshold("false_alarm"), "percent", table="line", report=True),
        Figure(
            "threshold_drift", "threshold drift, sd", lambda cell, _: fmean(threshold_shifts(cell) or [math.nan]),
            table="line", report=True,
        ),
        Figure(
            "drift_left", "drift left", None, table="line",
            meaning="at one threshold: how far the scores of held-out normal images of old classes moved, over how far "
            "`finetune` lets them; near 1 the method does nothing, near 0 it freezes the detector",
        ),
        _deployed(
            "routing_accuracy", "routing accuracy", lambda cell, _: _last(cell["routing_accuracy"]), "percent",
            report=True,
        ),
        _cost(
            "carried_mb", "carried MB", lambda _, cost: _last(cost.get("carried_bytes")) / MB, report=True,
            meaning="what the method keeps from step to step beyond the detector's own weights",
        ),
        _measured(
            "train_s", "train s", _sum("train_s"), report=True,
            meaning="seconds of training by the clock on the wall",
        ),
        _measured(
            "train_cpu_s", "train CPU s", _sum("train_cpu_s"), report=True,
            meaning="seconds that processors spent on training; other work on the machine hardly changes them",
        ),
        _cost("images_seen", "images seen", _sum("train_images")),
        _cost(
            "optimizer_steps", "optimizer steps", _sum("optimizer_steps"),
            meaning="updates of weights, those of a method's own networks among them; 0: nothing learns by gradient",
        ),
        _measured(
            "peak_mb", "peak MB",
            lambda _, cost: (
                _known(cost["gpu"], "allocated_bytes") if cost.get("gpu") else _known(cost, "peak_rss_bytes")
            ) / MB,
            report=True,
            meaning="GPU memory allocated at the peak; on a CPU, resident memory of the process",
        ),
        # What plans and progress count with: kept features and other work on the machine are in it.
        Figure(
            "elapsed_s", "elapsed s", lambda cell, _: _total(cell["cost"], "train_s") + _total(cell["cost"], "eval_s")
        ),
        Figure("eval_s", "evaluation s", _sum("eval_s"), of_machine=True),
        Figure("extra_s", "method's own s", _sum("extra_s"), of_machine=True),
        _cost(
            "evaluation_share", "evaluation share",
            lambda _, cost: _ratio(_total(cost, "eval_s"), _total(cost, "train_s") + _total(cost, "eval_s")), "percent",
        ),
        _measured(
            "train_images_per_s", "training images/s",
            lambda _, cost: _ratio(_total(cost, "train_images"), _total(cost, "train_s")), higher_is_better=True,
        ),
        _measured(
            "ms_per_image_1", "ms/image", _latency("1"), report=True,
            meaning="inference at batch 1 after warm-up; this and wall seconds are — where others used the machine "
            "meanwhile, or where nobody looked (`bench run --redo disturbed --jobs 1` measures again)",
        ),
        Figure("ms_per_image_32", "ms/image, batch 32", _latency("32"), of_machine=True),
        _measured(
            "images_per_s", "images/s, batch 32",
            lambda _, cost: _ratio(1000.0, _known(cost.get("ms_per_image"), "32")), higher_is_better=True,
        ),
        _measured("gpu_allocated_mb", "GPU allocated MB", _gpu("allocated_bytes", MB)),
        _measured("gpu_reserved_mb", "GPU reserved MB", _gpu("reserved_bytes", MB)),
        _measured("gpu_utilisation", "GPU use", _gpu("utilisation"), "percent"),
        _measured("energy_j", "energy J", _gpu("energy_j")),
        _measured("cpu_energy_j", "CPU energy J", _number("cpu_energy_j")),
        _measured("peak_rss_mb", "RSS MB", _number("peak_rss_bytes", MB)),
        Figure("detector_mb", "detector MB", _number("detector_bytes", MB)),
        _cost("parameters", "parameters", _number("parameters")),
        Figure("trainable_parameters", "trainable parameters", _number("trainable_parameters")),
    )
}  # fmt: skip


def figures(cell: Record) -> dict[str, float]:
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
    cost = own_times(cell)
    return found | {figure.id: figure.value(cell, cost) for figure in FIGURES.values() if figure.value}


def own_times(cell: Record) -> Cost:
    """The cost of a cell without the seconds and energy that are not its method's own.

    None are where features were found or kept. Where others used the machine meanwhile, or where nobody looked whether
    they did, those of the processor are, and those of the wall are not. What was handed in says its own.
    """
    cost, kept, quiet = cell["cost"], kept_features(cell), undisturbed(cell)
    if quiet and not kept:
        return cost
    lists = {
        name: [math.nan] * len(cost[name]) for name in TIMES if name in cost and (kept or not name.endswith("cpu_s"))
    }
    gpu = cost.get("gpu") and cost["gpu"] | {"utilisation": None, "energy_j": None}
    latency = {} if quiet else {"ms_per_image": {}}  # it is measured without kept features
    return cost | lists | latency | {"gpu": gpu, "cpu_energy_j": None}


def kept_features(cell: Record) -> bool:
    """Whether it took features of a frozen network from a cache, or wrote some there."""
    return any(images > 0 for name in FEATURES for images in cell["cost"].get(name, ()))


def undisturbed(cell: Record) -> bool:
    """Whether the machine was the cell's own at every step."""
    shares = cell["cost"].get("others_share")
    return "external" in cell["spec"] or (bool(shares) and all(share <= QUIET for share in shares))
