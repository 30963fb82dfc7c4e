"""Scores every class seen so far after each step and keeps the rows of R. The only holder of the test set's truth."""

from collections.abc import Sequence

import numpy as np
import torch
from avalanche.core import BaseSGDPlugin
from torch import Tensor
from torch.nn import functional as F

from bench.data import Arrays, held_out_rows
from bench.metrics.scoring import Judged, Rows, Truth, map_max
from bench.results.stored import quantise, restore
from bench.schema.stream import Stream
from bench.training.batch import Prediction
from bench.training.experiences import as_float

CANARY_IMAGES = 8
CANARY_TOLERANCE = 1e-3  # of the spread of the scores: batch size changes the last bits of a convolution, not more


class CanaryError(RuntimeError):
    """An image's score depended on the other images of its batch, on their order, or on the time it was asked for."""


class Watch(BaseSGDPlugin, supports_distributed=False):
    """Takes down what the strategy says of test images. It is all of the evaluation that a method can reach."""

    def __init__(self, size: int):
        super().__init__()
        self.size, self.batches, self.raw = size, [], []

    def before_eval(self, strategy, **_):
        self.batches: list[Prediction] = []
        self.raw: list[Tensor | None] = []

    def after_eval_iteration(self, strategy, **_):
        self.batches.append(_at_size(strategy.mb_output, self.size))
        self.raw.append(strategy.model.raw_error(strategy.mbatch.image))


class Evaluation:
    """Turns what was said of the test images into rows; with `save_maps`, what was said is first quantised.

    Then the rows are those of the stored maps, and re-scoring them gives the same numbers to the last bit.
    """

    def __init__(self, stream: Stream, arrays: Arrays, device: str = "cpu", *, save_maps: bool = False):
        self.stream, self.arrays, self.device, self.save_maps = stream, arrays, device, save_maps
        self.truth = Truth(arrays, len(stream.classes))
        self.rows = Rows(stream, self.truth)
        self.watch = Watch(arrays.images.shape[1])
        self.row = 0  # the step just trained; set by the runner

    def take(self, rows: np.ndarray) -> None:
        """Sort what was said of the test images `rows`, in the order in which they were shown, into classes."""
        said, self.watch.batches = _join(self.watch.batches), []
        raw = None if any(error is None for error in self.watch.raw) else torch.cat(self.watch.raw)
        order = np.argsort(rows)
        self.judged, self.arrays_to_store, self.raw = {}, {}, {}
        for column in np.unique(self.arrays.categories[rows]).tolist():
            places = order[np.searchsorted(rows, self.truth.rows[column], sorter=order)]
            self.judged[column] = self._judged(column, Prediction(*(_at(field, places) for field in said)))
            if raw is not None:
                self.raw[column] = _at(raw, places).cpu().numpy()

    def _judged(self, column: int, said: Prediction) -> Judged:
        name, anomaly_map = self.stream.classes[column], _array(said.map[:, 0])
        score = said.score.cpu().numpy()
        route = None if said.route is None else said.route.cpu().numpy().astype(np.int32)
        self.arrays_to_store[f"{name}/scores"] = score
        if route is not None:
            self.arrays_to_store[f"{name}/routes"] = route
        if self.save_maps:
            codes, scale = quantise(said.map[:, 0].cpu().numpy())
            self.arrays_to_store |= {f"{name}/maps": codes, f"{name}/scale": scale}
            anomaly_map = _array(torch.from_numpy(restore(codes, scale)).to(said.map.device))
        judged = Judged(score, anomaly_map, route)
        self.arrays_to_store[f"{name}/peaks"] = map_max(judged)
        return judged

    @torch.no_grad()
    def calibrate(self, strategy, columns: Sequence[int]) -> None:
        """Score the normal images of the classes `columns` that nobody trains on: they set thresholds."""
        rows = {column: held_out_rows(self.arrays, [column]) for column in columns}
        self.held_out = {
            column: Judged(self._predict(strategy, held, batch_size=32).score.cpu().numpy())
            for column, held in rows.items()
            if len(held)
        }

    def enter(self) -> dict[str, np.ndarray]:
        """Fill the rows of this step; returns the arrays to store of it, as `bench.results.stored` names them."""
        self.rows.enter(self.row, self.judged, self.held_out)
        self.rows.enter_raw(self.row, self.raw)
        calibration = {f"{self.stream.classes[c]}/calibration": said.score for c, said in self.held_out.items()}
        return self.arrays_to_store | calibration

    @torch.no_grad()
    def canary(self, strategy, columns: Sequence[int]) -> None:
        """Show a random sample of `columns` again, mixed, in another order and batch size; demand the same answers.

        Raises:
            CanaryError: if a score or a map moved by more than `CANARY_TOLERANCE` of the spread of all of them.
        """
        rng = np.random.default_rng(self.row)
        pool = [(c, i) for c in columns for i in range(len(self.truth.rows[c]))]
        chosen = [pool[k] for k in rng.permutation(len(pool))[:CANARY_IMAGES]]
        again = self._predict(strategy, [self.truth.rows[c][i] for c, i in chosen], batch_size=3)
        scores = [self.judged[c].score for c in columns]
        maps = [self.judged[c].map for c in columns]
        _compare("scores", again.score, [self.judged[c].score[i] for c, i in chosen], scores)
        _compare("maps", again.map[:, 0], [self.judged[c].map[i] for c, i in chosen], maps)

    def _predict(self, strategy, rows, batch_size: int) -> Prediction:
        strategy.model.eval()
        said = []
        for start in range(0, len(rows), batch_size):
            image = as_float(
                torch.from_numpy(np.stack([self.arrays.images[r] for r in rows[start : start + batch_size]]))
            )
            said.append(_at_size(strategy.model.predict(image.to(strategy.device)), self.watch.size))
        return _join(said)


def _compare(what: str, again: Tensor, first: list, every: list) -> None:
    first = torch.stack([torch.as_tensor(value) for value in first])
    moved = (again.to(first) - first).abs().max().item()
    spread = float(max(values.max() for values in every)) - float(min(values.min() for values in every))
    if not moved <= CANARY_TOLERANCE * max(spread, 1e-12):
        raise CanaryError(
            f"{what} moved by {moved:.3g} when {len(first)} test images were shown again in another order and batch "
            "size: `predict` must judge each image on its own, without batch statistics or undeclared state."
        )


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
        torch.cat([batch.route for batch in batches]) if routed else None,
    )


def _at(field: Tensor | None, places: np.ndarray) -> Tensor | None:
    return None if field is None else field[torch.from_numpy(places).to(field.device)]


def _array(values: Tensor):
    """NumPy on the CPU, torch where the tensor already lies on a GPU: no map is copied back."""
    return values if values.is_cuda else values.numpy()
