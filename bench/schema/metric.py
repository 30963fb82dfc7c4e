"""What is measured: one entry per metric, and every file, table and page that shows it follows from that."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """A number per class after each step: a matrix R of the cell file, under `id`."""

    id: str
    heading: str  # of columns
    higher_is_better: bool = True
    needs_masks: bool = False  # a class of which nobody knows where the defects are has none
    low: float = 0.0
    high: float = 1.0
    chance: float = 0.0  # of a score that says nothing; 0 where it depends on the share of anomalous images
    summarised: bool = True  # final average, forgetting, BWT, ... of R in CSV, tables and comparisons; else R alone
    shown: Literal["headline", "other"] | None = "other"  # table of the leaderboard that has its final average
    # Of one class: (scores (n,), maps (n, H, W) or None, labels (n,), `bench.metrics.ranking.Regions` of the masks or
    # None) -> value; maps are arrays or CUDA tensors, and left as they are. None: `bench.metrics.scoring` has it at
    # hand, mostly from the one sort of `bench.metrics.ranking`.
    compute: Callable[..., float] | None = None

    def impossible(self, values: Iterable[float]) -> list[float]:
        """Those of `values` that it cannot have; NaN it can: not measured."""
        return [value for value in values if value < self.low or value > self.high]


MAP_MAX = "map_max_image_auroc"  # the maximum of the map as the image score
RAW_ERROR = "raw_error"  # `Detector.raw_error`: mean over normal test images
# Of a stream with hold-out: what the threshold of a class does that was set when the class was learned.
CLASS_FALSE_ALARM, CLASS_RECALL = "class_false_alarm", "class_recall"  # of its test images, after each step
CLASS_THRESHOLD, CLASS_SPREAD = "class_threshold", "class_spread"  # set anew after each step; deviation of the scores
CLASS_SHIFT = "class_threshold_shift"  # how far the threshold set anew lies from the first one, in first deviations

METRICS = {
    metric.id: metric
    for metric in (
        Metric("image_auroc", "image AUROC", shown="headline", chance=0.5),
        Metric("image_ap", "image AP"),
        Metric("image_f1max", "image F1-max"),
        Metric("pixel_auroc", "pixel AUROC", needs_masks=True, chance=0.5),
        Metric("pixel_ap", "pixel AP", needs_masks=True),
        Metric("pixel_f1max", "pixel F1-max", needs_masks=True),
        Metric("aupro", "pixel AUPRO", needs_masks=True, shown="headline", chance=0.15),
        Metric("aupro_small", "AUPRO, small defects", needs_masks=True, summarised=False, shown=None),
        Metric("aupro_middle", "AUPRO, middle defects", needs_masks=True, summarised=False, shown=None),
        Metric("aupro_large", "AUPRO, large defects", needs_masks=True, summarised=False, shown=None),
        Metric("aupimo", "AUPIMO", needs_masks=True, summarised=False, shown=None),
        Metric("image_recall_fpr1", "recall at 1 % false alarms", summarised=False, shown=None),
        Metric("image_recall_fpr5", "recall at 5 % false alarms", summarised=False, shown=None),
        Metric(CLASS_FALSE_ALARM, "false alarms", higher_is_better=False, summarised=False, shown=None),
        Metric(CLASS_RECALL, "recall at threshold", summarised=False, shown=None),
        Metric(CLASS_THRESHOLD, "threshold", low=-math.inf, high=math.inf, summarised=False, shown=None),
        Metric(CLASS_SPREAD, "spread of normal scores", high=math.inf, summarised=False, shown=None),
        Metric(CLASS_SHIFT, "threshold shift", low=-math.inf, high=math.inf, summarised=False, shown=None),
        Metric(MAP_MAX, "image AUROC, map maximum", summarised=False),
        Metric(RAW_ERROR, "raw error", higher_is_better=False, high=math.inf, summarised=False, shown=None),
    )
}


def summarised() -> tuple[str, ...]:
    """Ids of the metrics whose R is summarised, in the order of the table."""
    return tuple(metric.id for metric in METRICS.values() if metric.summarised)


def headings() -> dict[str, str]:
    """{id: heading} of the same."""
    return {name: METRICS[name].heading for name in summarised()}
