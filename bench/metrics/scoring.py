"""From scores, maps and truth to the rows of a cell: one code for a run, a stored cell and a submission."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from bench.data import Arrays, rows_of
from bench.metrics.aupimo import aupimo
from bench.metrics.ranking import AUPRO_BY_SIZE, METRICS, image_metrics, pixel_metrics, pooled_pixel_auroc, regions
from bench.metrics.thresholds import AT_THRESHOLD, RECALL_AT, recall_at, threshold_metrics
from bench.schema.cell import MAP_MAX, RAW_ERROR
from bench.schema.stream import Stream

PIXEL_METRICS = ("pixel_auroc", "pixel_ap", "pixel_f1max", "aupro", *AUPRO_BY_SIZE, "aupimo")  # what needs maps
CALIBRATION_IMAGES = 64  # normal training images per step that set the threshold
CALIBRATION_QUANTILE = 0.95  # i.e. 5 % false alarms on them, by construction


class Judged(NamedTuple):
    """What a system says of the test images of one class, in the order of the data set."""

    score: np.ndarray  # (n,) float32, higher is more anomalous
    map: Any | None = None  # (n, H, W) float32, array or CUDA tensor; None: there are none
    route: np.ndarray | None = None  # (n,) step that each image was assigned to, where a method routes
    map_max: np.ndarray | None = None  # (n,) maximum of each map, where it was kept without the map


def map_max(judged: Judged) -> np.ndarray | None:
    """(n,) maximum of each map: as kept, else from the maps; None where there is neither."""
    if judged.map_max is not None or judged.map is None:
        return judged.map_max
    flat = judged.map.reshape(len(judged.map), -1)
    return flat.max(axis=1) if isinstance(flat, np.ndarray) else flat.amax(1).cpu().numpy()


class Truth:
    """Labels, masks and connected defects of each test class, computed once. Nothing that a method reaches holds it."""

    def __init__(self, arrays: Arrays, classes: int):
        self.rows = [rows_of(arrays, [c], train=False) for c in range(classes)]
        self.labels = [np.asarray(arrays.labels[rows]) for rows in self.rows]
        unmasked = np.zeros(len(arrays.labels), bool) if arrays.unmasked is None else arrays.unmasked
        # None where nobody knows where the defects are: such a class has image metrics only
        self.regions = [None if unmasked[r].any() else regions(np.asarray(arrays.masks[r])) for r in self.rows]


class Rows:
    """R per metric, and what is pooled over all classes seen, filled step by step; NaN where there is nothing.

    `matrices[metric]` is (steps, classes). Pixel metrics stay NaN where there are no maps, the threshold where there
    are no scores of training images.
    """

    def __init__(self, stream: Stream, truth: Truth):
        self.stream, self.truth = stream, truth
        steps = len(stream.steps)
        self.matrices = {name: np.full((steps, len(stream.classes)), np.nan) for name in METRICS}
        self.pooled = {name: np.full(steps, np.nan) for name in ("image_auroc", "pixel_auroc")}
        self.threshold = {name: np.full(steps, np.nan) for name in ("value", *AT_THRESHOLD)}
        self.routing = np.full(steps, np.nan)

    def record(self) -> dict:
        """The parts of a cell file that come from scores and maps."""
        return {
            "matrices": self.matrices,
            "pooled": self.pooled,
            "threshold": self.threshold,
            "routing_accuracy": None if np.isnan(self.routing).all() else self.routing,
        }

    def row(self, step: int) -> dict[str, np.ndarray]:
        """All numbers of `step`, named `part.name`, as `put` takes them back: (classes,) of a matrix, else ()."""
        parts = {part: getattr(self, part) for part in ("matrices", "pooled", "threshold")}
        parts["routing"] = {"": self.routing}
        return {f"{part}.{name}": np.array(rows[step]) for part, all_ in parts.items() for name, rows in all_.items()}

    def put(self, step: int, row: Mapping[str, np.ndarray]) -> None:
        """Take back what `row` returned."""
        for key, values in row.items():
            part, _, name = key.partition(".")
            if part == "routing":
                self.routing[step] = values
            elif part == "matrices":
                self._matrix(name)[step] = values
            else:
                getattr(self, part)[name][step] = values

    def _matrix(self, name: str) -> np.ndarray:
        """R of a metric; a new one where it is not always there."""
        return self.matrices.setdefault(name, np.full((len(self.stream.steps), len(self.stream.classes)), np.nan))

    def enter(self, step: int, judged: Mapping[int, Judged], calibration: np.ndarray | None) -> None:
        """Fill the rows of `step` from all classes seen (column -> what was said of its test images).

        `calibration` (m,) are the scores of normal training images of this step alone: they set its threshold.
        """
        seen = sorted(judged)
        for column in seen:
            for name, value in self._of_class(column, judged[column]).items():
                self._matrix(name)[step, column] = value
        scores = np.concatenate([judged[c].score for c in seen])
        labels = np.concatenate([self.truth.labels[c] for c in seen])
        self.pooled["image_auroc"][step] = image_metrics(scores, labels)["image_auroc"]
        if step == len(self.stream.steps) - 1:
            self.pooled["pixel_auroc"][step] = self._pooled_pixels(judged, seen)
        self._route(step, judged)
        if calibration is not None:
            self._reject(step, scores, labels, calibration)

    def enter_raw(self, step: int, errors: Mapping[int, np.ndarray]) -> None:
        """Note the mean over normal test images of `errors` (column -> (n,)), as some detectors tell them."""
        for column, of_class in errors.items():
            normal = of_class[self.truth.labels[column] == 0]
            self._matrix(RAW_ERROR)[step, column] = normal.mean() if len(normal) else np.nan

    def of_step(self, step: int) -> dict[str, float]:
        """Every value of `step` as metric/class, for loggers."""
        return {
            f"{metric}/{name}": float(R[step, c])
            for c, name in enumerate(self.stream.classes)
            for metric, R in self.matrices.items()
            if not np.isnan(R[step, c])
        }

    def _of_class(self, column: int, judged: Judged) -> dict[str, float]:
        labels = self.truth.labels[column]
        values = image_metrics(judged.score, labels)
        values |= {name: recall_at(judged.score, labels, rate) for name, rate in RECALL_AT.items()}
        highest = map_max(judged)
        if highest is not None:
            values[MAP_MAX] = image_metrics(highest, labels)["image_auroc"]
        regions = self.truth.regions[column]
        if judged.map is not None and regions is not None:
            values["aupimo"] = _mean(aupimo(judged.map, regions))
            values |= pixel_metrics(judged.map, regions)
        return values

    def _pooled_pixels(self, judged: Mapping[int, Judged], seen: list[int]) -> float:
        seen = [column for column in seen if self.truth.regions[column] is not None]
        if not seen or any(judged[column].map is None for column in seen):
            return np.nan
        return pooled_pixel_auroc(lambda index: judged[seen[index]].map, [self.truth.regions[c] for c in seen])

    def _route(self, step: int, judged: Mapping[int, Judged]) -> None:
        if all(one.route is not None for one in judged.values()):
            right = [one.route == self.stream.learned_at[c] for c, one in judged.items()]
            self.routing[step] = np.concatenate(right).mean()

    def _reject(self, step: int, scores: np.ndarray, labels: np.ndarray, calibration: np.ndarray) -> None:
        value = float(np.quantile(np.asarray(calibration, float), CALIBRATION_QUANTILE))
        reached = threshold_metrics(scores, labels, value) | {"value": value}
        for name, rows in self.threshold.items():
            rows[step] = reached[name]


def _mean(values: np.ndarray) -> float:
    """Of what is there; NaN of nothing."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else np.nan
