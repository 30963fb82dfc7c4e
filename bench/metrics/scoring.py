"""From scores, maps and truth to the rows of a cell: one code for a run, a stored cell and a submission."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from bench.data import Arrays, rows_of
from bench.metrics.aupimo import aupimo
from bench.metrics.ranking import image_metrics, pixel_metrics, pooled_pixel_auroc, regions
from bench.metrics.thresholds import (
    AT_THRESHOLD,
    RECALL_AT,
    calibration_error,
    drift,
    recall_at,
    threshold_for,
    threshold_metrics,
)
from bench.schema.cell import (
    CLASS_FALSE_ALARM,
    CLASS_RECALL,
    CLASS_SHIFT,
    CLASS_SPREAD,
    CLASS_THRESHOLD,
    MAP_MAX,
    RAW_ERROR,
)
from bench.schema.metric import METRICS, summarised
from bench.schema.stream import Stream

PIXEL_METRICS = tuple(metric.id for metric in METRICS.values() if metric.needs_masks)
CALIBRATION_IMAGES = 64  # normal training images of a step that a system of its own may score, see docs/submissions.md


class Judged(NamedTuple):
    """What a system says of the test images of one class, in the order of the data set."""

    score: np.ndarray  # (n,) float32 or float64, higher is more anomalous
    # (n, H, W), array or CUDA tensor, or a function that gives one anew, which is then used up; None: there are none
    map: Any | None = None
    route: np.ndarray | None = None  # (n,) step that each image was assigned to, where a method routes
    map_max: np.ndarray | None = None  # (n,) maximum of each map, where it was kept without the map


def map_max(judged: Judged) -> np.ndarray | None:
    """(n,) maximum of each map: as kept, else from the maps; None where there is neither."""
    if judged.map_max is not None or judged.map is None:
        return judged.map_max
    maps = judged.map() if callable(judged.map) else judged.map
    flat = maps.reshape(len(maps), -1)
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

    `matrices[metric]` is (steps, classes). Pixel metrics stay NaN where there are no maps, thresholds where no normal
    images are held out of training.
    """

    def __init__(self, stream: Stream, truth: Truth):
        self.stream, self.truth = stream, truth
        steps = len(stream.steps)
        self.matrices = {name: np.full((steps, len(stream.classes)), np.nan) for name in summarised()}
        self.pooled = {name: np.full(steps, np.nan) for name in ("image_auroc", "pixel_auroc")}
        self.threshold = {name: np.full(steps, np.nan) for name in ("value", *AT_THRESHOLD)}
        self.routing = np.full(steps, np.nan)

    def record(self) -> dict:
        """The parts of a cell file that come from scores, maps and truth."""
        named = zip(self.stream.classes, self.truth.regions, strict=True)
        unmasked = [name for name, regions in named if regions is None]
        return {
            **({"unmasked": unmasked} if unmasked else {}),
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
            elif part == "threshold":
                self._threshold(name)[step] = values
            else:
                self.pooled[name][step] = values

    def _matrix(self, name: str) -> np.ndarray:
        """R of a metric; a new one where it is not always there."""
        return self.matrices.setdefault(name, np.full((len(self.stream.steps), len(self.stream.classes)), np.nan))

    def enter(self, step: int, judged: Mapping[int, Judged], held_out: Mapping[int, Judged] | None = None) -> None:
        """Fill the rows of `step` from all classes shown (column -> what was said of its test images).

        Some that were learned may be left out, which leaves what is counted over all of them NaN; some that are yet to
        come may be among them, and count for themselves alone. `held_out` is what was said of the normal images held
        out of training, of the classes that were learned: they set thresholds.
        Where maps are given as functions, one class after the other has its maps in memory, and no copy of them.
        """
        seen, of_images = sorted(judged), {}
        for column in seen:
            for name, value in self._of_class(column, judged[column]).items():
                self._matrix(name)[step, column] = value
            of_images[column] = judged[column]
        learned = [c for c, at in enumerate(self.stream.learned_at) if at <= step]
        whole = of_images.keys() >= set(learned)
        of_images = {c: of_images[c] for c in learned if c in of_images}
        if whole:
            scores = np.concatenate([of_images[c].score for c in learned])
            labels = np.concatenate([self.truth.labels[c] for c in learned])
            self.pooled["image_auroc"][step] = image_metrics(scores, labels)["image_auroc"]
            if all(one.route is not None for one in of_images.values()):
                right = [one.route == self.stream.learned_at[c] for c, one in of_images.items()]
                self.routing[step] = np.concatenate(right).mean()
        if step == len(self.stream.steps) - 1:
            self.pooled["pixel_auroc"][step] = self._pooled_pixels(judged, seen)
        if held_out:
            self._set_thresholds(step, of_images, held_out, whole)

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
        own = callable(judged.map)  # then nobody else holds them, and they are sorted where they lie
        maps = None if regions is None else judged.map() if own else judged.map
        for metric in METRICS.values():
            if metric.compute and not (metric.needs_masks and maps is None):
                values[metric.id] = metric.compute(judged.score, maps, labels, regions)
        if maps is not None:
            values["aupimo"] = _mean(aupimo(maps, regions))
            values |= pixel_metrics(maps, regions, overwrite=own)
        return values

    def _pooled_pixels(self, judged: Mapping[int, Judged], seen: list[int]) -> float:
        seen = [column for column in seen if self.truth.regions[column] is not None]
        if not seen or np.isnan(self.matrices["pixel_ap"][-1, seen]).any():
            return np.nan

        def maps(index: int):
            given = judged[seen[index]].map
            return given() if callable(given) else np.array(given) if isinstance(given, np.ndarray) else given.clone()

        return pooled_pixel_auroc(maps, [self.truth.regions[c] for c in seen])

    def _set_thresholds(
        self, step: int, judged: Mapping[int, Judged], held_out: Mapping[int, Judged], whole: bool
    ) -> None:
        """Three ways to set a threshold on images that no method trained on.

        Of a class, when it is learned: what forgetting does to it shows in later rows. Of the line, anew after each
        step, on all classes seen. Of the step that each image is routed to, where the method routes.
        """
        for column, said in held_out.items():
            values = self._matrix(CLASS_THRESHOLD)[:, column], self._matrix(CLASS_SPREAD)[:, column]
            values[0][step], values[1][step] = threshold_for(said.score), said.score.std(ddof=1)
            first, spread = (of_steps[self.stream.learned_at[column]] for of_steps in values)
            if column in judged and np.isfinite(first):
                found = threshold_metrics(judged[column].score, self.truth.labels[column], first)
                self._matrix(CLASS_FALSE_ALARM)[step, column] = found["false_alarm"]
                self._matrix(CLASS_RECALL)[step, column] = found["recall"]
                self._matrix(CLASS_SHIFT)[step, column] = drift(values[0][step], first, spread)
        if not whole:
            return
        scores, labels = [judged[c].score for c in judged], [self.truth.labels[c] for c in judged]
        of_line = threshold_for(np.concatenate([said.score for said in held_out.values()]))
        self._reject(step, "", scores, labels, [of_line] * len(scores))
        self.threshold["value"][step] = of_line
        if not np.isnan(self.routing[step]):
            at = self.stream.learned_at
            its = [[said.score for c, said in held_out.items() if at[c] == t] for t in range(step + 1)]
            of_steps = np.array([threshold_for(np.concatenate(scores_of_step)) for scores_of_step in its])
            alarms = self._reject(step, "routed_", scores, labels, [of_steps[j.route] for j in judged.values()])
            self._threshold("routed_calibration_error")[step] = calibration_error(alarms)

    def _reject(self, step: int, prefix: str, scores: list, labels: list, thresholds: list) -> list[float]:
        """Enter what thresholds (one per class, or per image) do to all classes; returns the false alarms of each."""
        every = [np.broadcast_to(threshold, one.shape) for threshold, one in zip(thresholds, scores, strict=True)]
        reached = threshold_metrics(*map(np.concatenate, (scores, labels, every)))
        for name in AT_THRESHOLD:
            self._threshold(prefix + name)[step] = reached[name]
        each = zip(scores, labels, every, strict=True)
        return [threshold_metrics(*of_class)["false_alarm"] for of_class in each]

    def _threshold(self, name: str) -> np.ndarray:
        return self.threshold.setdefault(name, np.full(len(self.stream.steps), np.nan))


def _mean(values: np.ndarray) -> float:
    """Of what is there; NaN of nothing."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else np.nan
