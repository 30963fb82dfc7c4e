"""Scores every class seen so far after each step and keeps the rows of R. The only holder of the test set's truth."""

import numpy as np
import torch
from avalanche.evaluation import PluginMetric
from avalanche.evaluation.metric_results import MetricValue
from torch.nn import functional as F

from bench.benchmark import as_float, rows_of
from bench.data import Arrays
from bench.metrics import METRICS, image_metrics, pixel_metrics, regions, threshold_metrics
from bench.stream import Stream
from bench.types import Prediction

CALIBRATION_IMAGES = 64  # normal training images per step that set the threshold
CALIBRATION_QUANTILE = 0.95  # i.e. 5 % false alarms on them, by construction
CANARY_IMAGES = 8
CANARY_TOLERANCE = 1e-3  # of the spread of the scores: batch size changes the last bits of a convolution, not more


class CanaryError(RuntimeError):
    """An image's score depended on the other images of its batch, on their order, or on the time it was asked for."""


class Truth:
    """Labels, masks and connected defects of each test class, computed once per run."""

    def __init__(self, arrays: Arrays, classes: int, device: str):
        self.rows = [rows_of(arrays, [c], train=False) for c in range(classes)]
        self.labels = [np.asarray(arrays.labels[rows]) for rows in self.rows]
        self.regions = [regions(np.asarray(arrays.masks[rows])) for rows in self.rows]
        if device != "cpu":
            self.regions = [(torch.from_numpy(labels).to(device), count) for labels, count in self.regions]


class Evaluation(PluginMetric[dict]):
    """An Avalanche metric that fills R: `matrices[metric]` is (steps, classes), NaN where not evaluated."""

    def __init__(self, stream: Stream, arrays: Arrays, device: str = "cpu"):
        super().__init__()
        self.stream, self.arrays = stream, arrays
        self.truth = Truth(arrays, len(stream.classes), device)
        steps = len(stream.steps)
        self.matrices = {name: np.full((steps, len(stream.classes)), np.nan) for name in METRICS}
        self.pooled = {name: np.full(steps, np.nan) for name in ("image_auroc", "pixel_auroc")}
        self.threshold = {name: np.full(steps, np.nan) for name in ("value", "f1", "false_alarm")}
        self.routing = np.full(steps, np.nan)
        self.row = 0  # the step just trained; set by the runner
        self.reset()

    def state(self) -> dict:
        """The rows so far as plain lists, for a checkpoint."""
        parts = {"matrices": self.matrices, "pooled": self.pooled, "threshold": self.threshold}
        return {part: {name: rows.tolist() for name, rows in values.items()} for part, values in parts.items()} | {
            "routing": self.routing.tolist()
        }

    def restore(self, state: dict) -> None:
        """Take back what `state` returned."""
        for part in ("matrices", "pooled", "threshold"):
            setattr(self, part, {name: np.array(rows) for name, rows in state[part].items()})
        self.routing = np.array(state["routing"])

    def reset(self) -> None:
        self.predictions: dict[int, Prediction] = {}

    def result(self) -> dict:
        return {name: R[self.row] for name, R in self.matrices.items()}

    def before_eval(self, strategy):
        self.reset()

    def before_eval_exp(self, strategy):
        self.batches: list[Prediction] = []

    def after_eval_iteration(self, strategy):
        self.batches.append(_at_size(strategy.mb_output, self.arrays.images.shape[1]))

    def after_eval_exp(self, strategy):
        column = strategy.experience.current_experience
        prediction = _join(self.batches)
        self.predictions[column] = prediction
        values = image_metrics(_array(prediction.score), self.truth.labels[column])
        values |= pixel_metrics(_array(prediction.map[:, 0]), *self.truth.regions[column])
        for name, value in values.items():
            self.matrices[name][self.row, column] = value
        self._raw_error(strategy, column)
        name = self.stream.classes[column]
        return [MetricValue(self, f"{metric}/{name}", value, self.row) for metric, value in values.items()]

    def after_eval(self, strategy):
        """Rank all classes together, as one line with one threshold would."""
        seen = sorted(self.predictions)
        scores = np.concatenate([self.predictions[c].score.cpu().numpy() for c in seen])
        labels = np.concatenate([self.truth.labels[c] for c in seen])
        self.pooled["image_auroc"][self.row] = image_metrics(scores, labels)["image_auroc"]
        self._route(seen)
        if self.row == len(self.stream.steps) - 1:
            self.pooled["pixel_auroc"][self.row] = self._pooled_pixels(seen)
        reached = threshold_metrics(scores, labels, self.threshold["value"][self.row])
        self.threshold["f1"][self.row], self.threshold["false_alarm"][self.row] = reached["f1"], reached["false_alarm"]

    @torch.no_grad()
    def _raw_error(self, strategy, column: int) -> None:
        """Note how well normal images of this class are made again without their own help, if the detector tells."""
        rows = self.truth.rows[column][self.truth.labels[column] == 0]
        errors = []
        for error in self._batches(strategy, rows, 32, strategy.model.raw_error):
            if error is None:
                return
            errors.append(error)
        if errors:
            R = self.matrices.setdefault("raw_error", np.full((len(self.stream.steps), len(self.truth.rows)), np.nan))
            R[self.row, column] = torch.cat(errors).mean().item()

    def _route(self, seen: list[int]) -> None:
        routes = [self.predictions[c].route for c in seen]
        if all(route is not None for route in routes):
            right = [(route == self.stream.learned_at[c]).float() for c, route in zip(seen, routes, strict=True)]
            self.routing[self.row] = torch.cat(right).mean().item()

    def _pooled_pixels(self, seen: list[int]) -> float:
        maps = torch.cat([self.predictions[c].map[:, 0] for c in seen])
        labelled, offset = [], 0
        for c in seen:
            labels, count = self.truth.regions[c]
            labelled.append(np.where(labels > 0, labels + offset, 0) if isinstance(labels, np.ndarray) else labels)
            offset += count
        joined = np.concatenate(labelled) if isinstance(labelled[0], np.ndarray) else torch.cat(labelled)
        return pixel_metrics(_array(maps), joined, offset)["pixel_auroc"]

    @torch.no_grad()
    def calibrate(self, strategy) -> None:
        """Set the threshold of this step on normal training images of this step alone (before `eval`)."""
        columns = [c for c, step in enumerate(self.stream.learned_at) if step == self.row]
        rows = rows_of(self.arrays, columns, train=True)
        rows = rows[np.linspace(0, len(rows) - 1, min(CALIBRATION_IMAGES, len(rows)), dtype=int)]
        scores = self._score(strategy, rows, batch_size=32)
        self.threshold["value"][self.row] = torch.quantile(scores, CALIBRATION_QUANTILE).item()

    @torch.no_grad()
    def canary(self, strategy, columns: list[int]) -> None:
        """Score a random sample of `columns` again, mixed, in another order and batch size; demand the same scores.

        Raises:
            CanaryError: if a score moved by more than `CANARY_TOLERANCE` of the spread of all scores.
        """
        rng = np.random.default_rng(self.row)
        pool = [(c, i) for c in columns for i in range(len(self.truth.rows[c]))]
        chosen = [pool[k] for k in rng.permutation(len(pool))[:CANARY_IMAGES]]
        again = self._score(strategy, [self.truth.rows[c][i] for c, i in chosen], batch_size=3)
        first = torch.stack([self.predictions[c].score[i] for c, i in chosen])
        every = torch.cat([self.predictions[c].score for c in columns])
        moved = (again.to(first) - first).abs().max().item()
        if not moved <= CANARY_TOLERANCE * (every.max() - every.min()).clamp_min(1e-12).item():
            raise CanaryError(
                f"scores moved by {moved:.3g} when {len(chosen)} test images were scored again in another order and "
                "batch size: `predict` must judge each image on its own, without batch statistics or undeclared state."
            )

    def _score(self, strategy, rows, batch_size: int) -> torch.Tensor:
        strategy.model.eval()
        return torch.cat(
            [each.score.float() for each in self._batches(strategy, rows, batch_size, strategy.model.predict)]
        )

    def _batches(self, strategy, rows, batch_size: int, function):
        """`function` of the images of `rows`, batch by batch."""
        for start in range(0, len(rows), batch_size):
            image = np.stack([self.arrays.images[r] for r in rows[start : start + batch_size]])
            yield function(as_float(torch.from_numpy(image)).to(strategy.device))


def _at_size(prediction: Prediction, size: int) -> Prediction:
    anomaly_map = prediction.map.detach().float()
    if anomaly_map.shape[-1] != size:
        anomaly_map = F.interpolate(anomaly_map, size=(size, size), mode="bilinear", align_corners=False)
    return Prediction(prediction.score.detach().float(), anomaly_map, prediction.route)


def _join(batches: list[Prediction]) -> Prediction:
    routed = all(batch.route is not None for batch in batches)
    return Prediction(
        torch.cat([batch.score for batch in batches]),
        torch.cat([batch.map for batch in batches]),
        torch.cat([batch.route for batch in batches]).cpu() if routed else None,
    )


def _array(values: torch.Tensor):
    """NumPy on the CPU, torch where the tensor already lies on a GPU: no map is copied back."""
    return values if values.is_cuda else values.numpy()
