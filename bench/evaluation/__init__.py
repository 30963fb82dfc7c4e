"""Shows test images to a method and scores what it says of them. The only holder of the test set's truth."""

import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from operator import getitem
from pathlib import Path

import numpy as np
import torch

from bench.data import Arrays, held_out_rows, rows_of
from bench.errors import BadInput
from bench.metrics.scoring import Judged, Rows, Truth
from bench.results.stored import codes_of, restore, scale_of
from bench.schema.stream import Stream

BATCH = 32  # test images
CANARY_IMAGES, CANARY_BATCH = 8, 3
LATENCY_BATCHES, LATENCY_S = (1, 32), 0.5  # images, seconds for each
CANARY_TOLERANCE = 1e-3  # of the spread of the scores: batch size changes the last bits of a convolution, not more
# One image of those shown again may move by this share of the spread: PatchCore's score jumps where two patches of an
# image are equally anomalous, a routed one where two banks are equally near, and the last bits decide (1 cell in 200).
CANARY_JUMP = 0.05
# Outliers widen the spread at will, so ranks are held to as well: the share of all images (of their pixels, on average)
# that one may pass, or as many near ties as there may be, and the share that the one which jumps may pass.
CANARY_PASSED, CANARY_TIES, CANARY_JUMP_PASSED = 0.01, 3, 0.2
CANARY_PIXELS = 1 << 17  # most that ranks are taken from
TIMED_MAPS = 64  # images whose maps are compared of those that are timed
CHANGED = 64  # one in so many values of an image that is timed a second time differs by a grey level

Look = Callable[[Iterable[np.ndarray], Callable[[dict], None], int | None], None]  # `Step.look`


class CanaryError(RuntimeError):
    """An image's score depended on the other images of its batch, their order, or on when it was asked."""


class AnswerError(RuntimeError):
    """A method said of a test image what is no score or no map."""


class Evaluation:
    """Turns what was said of the test images into rows; with `save_maps`, what was said is first quantised.

    Then the rows are those of the stored maps, and re-scoring them gives the same numbers to the last bit.
    """

    def __init__(self, stream: Stream, arrays: Arrays, device: str = "cpu", *, save_maps: bool = False):
        self.stream, self.arrays, self.device, self.save_maps = stream, arrays, device, save_maps
        self.truth = Truth(arrays, len(stream.classes))
        self.rows = Rows(stream, self.truth)
        self.key = _key(arrays)

    def show(self, look: Look, step: int, columns: Sequence[int], *, told: bool) -> "Said":
        """Show the test images of the classes `columns`, with those that set their thresholds among them.

        The latter are the normal images of these classes that were held out of training, once the classes are learned.
        All come in an order that nobody can compute without the truth, the same everywhere; one class after the other
        where the method is `told` which it is.

        Raises:
            AnswerError: if an answer is no finite score and map for each image.
        """
        calibration = held_out_rows(self.arrays, [c for c in columns if self.stream.learned_at[c] <= step])
        rows = np.concatenate([*(self.truth.rows[c] for c in columns), calibration])
        rows = np.random.default_rng([self.key, step]).permutation(rows)
        if told:
            rows = rows[np.argsort(self.arrays.categories[rows], kind="stable")]
        said = Said(self, step, columns, rows, calibration)
        said.ask(look, BATCH, told)
        return said

    def show_again(self, look: Look, said: "Said", *, told: bool) -> None:
        """Show a random sample again, in another order and batch size; demand the same answers.

        Raises:
            CanaryError: if a score or a map moved by more than last bits, or past more than a few of the others.
        """
        rows = self._sample(said)
        if told:
            rows = rows[np.argsort(self.arrays.categories[rows], kind="stable")]
        again = Said(self, said.step, said.seen, rows, said.calibration)
        again.ask(look, CANARY_BATCH, told)
        self._same(again, said, np.arange(len(rows)), len(rows))

    def _sample(self, said: "Said") -> np.ndarray:
        return np.random.default_rng([self.key, said.step, 1]).permutation(said.tests)[:CANARY_IMAGES]

    def _same(self, again: "Said", said: "Said", shown: np.ndarray, maps: int) -> None:
        """Demand the same scores of the images `shown` again, by their places, and the same maps of the first so many.

        Where none was shown again as it was, there is nothing to demand.
        """
        if (again.maps is None) != (said.maps is None):
            raise CanaryError("maps came with the answers at one time and not at another.")
        if not len(shown):
            return
        rows, before = again.rows[shown], said.places(again.rows[shown])
        now, first = again.scores[shown], said.scores[before]
        _compare("scores", now, first, said.scores)
        every, columns = self.arrays.categories[said.rows], self.arrays.categories[rows]
        for column in np.unique(columns):  # whose images are ranked among themselves
            its = columns == column
            _compare("scores", now[its], first[its], said.scores[every == column], spread_of=said.scores)
        if said.maps is not None:
            _compare("maps", again.maps[shown[:maps]], said.maps[before[:maps]], said.maps)

    def time(self, look: Look, said: "Said", *, told: bool) -> dict[str, float]:
        """Milliseconds per image at batch 1 and 32, hand-over included: the median of as many as fit the budget.

        The first batch of a size is the warm-up. Shown are test images that this process, which `show_again` has asked
        before, has not seen yet, for the second size those that follow on the first's. Where there are too few, those
        that it has seen come again with other grey levels each time: no image comes twice, to be answered from memory.

        Raises:
            CanaryError: if an answer that was timed is another than the one that counts.
        """
        draws, found = np.random.default_rng([self.key, said.step, 2]), {}
        order = draws.permutation(said.tests)
        if told:
            order = order[self.arrays.categories[order] == self.arrays.categories[order[0]]]
        seen = self._sample(said)
        order = order[np.argsort(np.isin(order, seen), kind="stable")]
        for size in LATENCY_BATCHES:
            rows = np.resize(order, size * max(2, min(50, len(order) // size)))
            again, seconds = Said(self, said.step, said.seen, rows, said.calibration), []
            new = np.isin(np.arange(len(rows)), np.unique(rows, return_index=True)[1]) & ~np.isin(rows, seen)
            again.ask(look, size, told, seconds=seconds, budget=LATENCY_S, changed=~new, draws=draws)
            rows, new = rows[: again.count], new[: again.count]
            self._same(again, said, np.flatnonzero(new), TIMED_MAPS)
            changed = np.flatnonzero(~new)  # most of these are to score nearly the same
            moved = np.abs(again.scores[changed] - said.scores[said.places(again.rows[changed])])
            if len(moved) and np.median(moved) > CANARY_JUMP * max(float(np.ptp(said.scores)), 1e-12):
                raise CanaryError(
                    f"the scores of most of {len(moved)} test images moved by {np.median(moved):.3g} and more when "
                    "they were timed with single values changed by one grey level: what is timed must be what is "
                    "scored."
                )
            seen, order = np.union1d(seen, rows), np.roll(order, -again.count)
            found[str(size)] = 1000 * float(np.median(seconds[1:])) / size
        return found

    def enter(self, said: "Said") -> dict[str, np.ndarray]:
        """Fill the rows of this step; returns the arrays to store of it, as `bench.results.stored` names them."""
        judged, held_out, arrays, raw = {}, {}, {}, {}
        for column in said.seen:
            places = said.places(self.truth.rows[column])
            judged[column], kept = self._judged(column, said, places)
            arrays |= kept
            if said.raw_errors is not None:
                raw[column] = said.raw_errors[places]
            held = said.calibration[self.arrays.categories[said.calibration] == column]
            if len(held):
                held_out[column] = Judged(said.scores[said.places(held)])
                arrays[f"{self.stream.classes[column]}/calibration"] = held_out[column].score
        self.rows.enter(said.step, judged, held_out)
        self.rows.enter_raw(said.step, raw)
        return arrays

    def _judged(self, column: int, said: "Said", places: np.ndarray) -> tuple[Judged, dict[str, np.ndarray]]:
        """What was said of a class, whose maps stay on disk until they are asked for, and what to store of it."""
        name, judged = self.stream.classes[column], Judged(said.scores[places])
        arrays = {f"{name}/scores": judged.score}
        if said.routes is not None:
            judged = judged._replace(route=said.routes[places])
            arrays[f"{name}/routes"] = judged.route
        if said.maps is None:
            return judged, arrays
        if self.save_maps:
            codes = scratch((len(places), *said.maps.shape[1:]), np.uint16, self.arrays)
            scale = scale_of(said.maps[places])
            for code, place in zip(codes, places, strict=True):
                code[:] = codes_of(said.maps[place], scale)
            arrays |= {f"{name}/maps": codes, f"{name}/scale": scale}
            maps, peaks = partial(restore, codes, scale), [restore(code[None], scale).max() for code in codes]
        else:
            maps, peaks = partial(getitem, said.maps, places), [said.maps[place].max() for place in places]
        arrays[f"{name}/peaks"] = np.array(peaks)
        return judged._replace(map=partial(self._beside, maps), map_max=arrays[f"{name}/peaks"]), arrays

    def _beside(self, maps: Callable[[], np.ndarray]):
        """The maps where they are ranked."""
        return maps() if self.device == "cpu" else torch.from_numpy(maps()).to(self.device)


class Said:
    """What a method says of the images `rows`, in the order in which they are shown."""

    def __init__(
        self, evaluation: Evaluation, step: int, seen: Sequence[int], rows: np.ndarray, calibration: np.ndarray
    ):
        self.evaluation, self.step, self.seen, self.rows, self.calibration = evaluation, step, seen, rows, calibration
        side = evaluation.arrays.images.shape[1]
        # float32, or float64 once an answer is: a cast would make ties of scores that differ
        self.scores = np.empty(len(rows), np.float32)
        self.maps: np.ndarray | None = scratch((len(rows), side, side), np.float32, evaluation.arrays)
        self.routes: np.ndarray | None = np.empty(len(rows), np.int32)
        self.raw_errors: np.ndarray | None = np.empty(len(rows), np.float32)
        self.count = self.due = 0  # answers taken, and how many the next one must hold

    def ask(
        self, look: Look, size: int, told: bool, *, seconds: list[float] | None = None, budget: float = np.inf,
        changed: np.ndarray | None = None, draws: np.random.Generator | None = None,
    ) -> None:  # fmt: skip
        """Show all images, `size` at a time and, if their class is `told`, one class after the other.

        `seconds` takes what each batch took; beyond a `budget` of them no more than two batches are shown. Those that
        are `changed` (N,) have values drawn from `draws` that differ by one grey level.
        """
        self.seconds, self.budget, self.draws = [] if seconds is None else seconds, budget, draws
        self.changed = np.zeros(len(self.rows), bool) if changed is None else changed
        columns = self.evaluation.arrays.categories[self.rows]
        groups = np.split(self.rows, np.flatnonzero(np.diff(columns)) + 1) if told else [self.rows]
        for group in groups:
            look(self._batches(group, size), self.take, int(columns[self.count]) if told else None)
        if self.count != len(self.rows) and budget == np.inf:
            raise AnswerError(f"{self.count} test images were judged of {len(self.rows)}.")

    def _batches(self, rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
        for at in range(0, len(rows), size):
            if len(self.seconds) > 1 and sum(self.seconds) > self.budget:
                return
            images = np.stack([self.evaluation.arrays.images[row] for row in rows[at : at + size]])
            for place in np.flatnonzero(self.changed[self.count : self.count + len(images)]):
                values = images[place].reshape(-1)
                which = self.draws.integers(len(values), size=-(-len(values) // CHANGED))
                values[which] = np.where(values[which] < 128, values[which] + 1, values[which] - 1)
            self.due, start = len(images), time.perf_counter()
            yield images
            self.seconds.append(time.perf_counter() - start)

    @property
    def tests(self) -> np.ndarray:
        """Those that are test images, in the order of the data set."""
        return np.setdiff1d(self.rows, self.calibration)

    def places(self, rows: np.ndarray) -> np.ndarray:
        """Where `rows` were shown."""
        order = np.argsort(self.rows)
        return order[np.searchsorted(self.rows, rows, sorter=order)]

    def take(self, answer: dict[str, np.ndarray]) -> None:
        """Take the next answer down.

        Raises:
            AnswerError: if it is none, by class and image.
        """
        size, self.due = self.due, 0
        if not size:
            raise AnswerError("an answer came before the images that it is of.")
        place = slice(self.count, self.count + size)
        if self.count == 0 and "maps" not in answer:
            self.maps = None  # it judges whole images
        for name, target in (("scores", self.scores), ("maps", self.maps)):
            if target is None and name not in answer:
                continue
            value = answer.get(name)
            if target is None:
                raise AnswerError(f"{name} of {self._named(self.count)}: there were none of the images before it.")
            if value is None or value.shape != (size, *target.shape[1:]) or value.dtype.kind != "f":
                shape = "nothing" if value is None else f"{value.dtype} {value.shape}"
                raise AnswerError(f"{name} of {self._named(self.count)}: {shape}, where one per image was due.")
            if not np.isfinite(value).all():
                first = int(np.flatnonzero(~np.isfinite(value.reshape(size, -1)).all(1))[0])
                raise AnswerError(f"the {name[:-1]} of {self._named(self.count + first)} is NaN or infinite.")
            self._wide_enough(name, value.dtype)[place] = value
        for name in ("routes", "raw_errors"):
            value, target = answer.get(name), getattr(self, name)
            if value is None or target is None or value.shape != (size,):
                setattr(self, name, None)
            else:
                target[place] = value
        self.count += size

    def _wide_enough(self, name: str, kind: np.dtype) -> np.ndarray:
        old = getattr(self, name)
        if kind.itemsize <= old.dtype.itemsize:
            return old
        new = np.empty(old.shape, kind) if name == "scores" else scratch(old.shape, kind, self.evaluation.arrays)
        new[: self.count] = old[: self.count]
        setattr(self, name, new)
        return new

    def _named(self, place: int) -> str:
        arrays, row = self.evaluation.arrays, self.rows[place]
        column, held = arrays.categories[row], row in self.calibration
        of_class = held_out_rows(arrays, [column]) if held else rows_of(arrays, [column], train=False)
        number, kind = int(np.searchsorted(of_class, row)), "held-out" if held else "test"
        return f"{kind} image {number} of {self.evaluation.stream.classes[column]}"


def scratch(shape: tuple[int, ...], kind: type, arrays: Arrays) -> np.ndarray:
    """An array on disk, beside the decoded images, that is gone when nobody holds it.

    The maps of all classes seen come mixed, and would not fit into memory.

    Raises:
        BadInput: if there is no room for it.
    """
    folder = Path(arrays.images.filename).parent if isinstance(arrays.images, np.memmap) else None
    size = int(np.prod(shape)) * np.dtype(kind).itemsize
    if not size:
        return np.empty(shape, kind)
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)  # a full disk under a memory map kills the process, wordless
        except OSError as error:
            raise BadInput(
                f"the cache folder {folder} has no room for {size / 1e9:.1f} GB of anomaly maps ({error.strerror}): "
                "free some space or give another one with --cache."
            ) from error
        return np.memmap(file, kind, "r+", shape=shape)


def _key(arrays: Arrays) -> int:
    """64 bits of what a method must not know: labels and masks of the test images."""
    digest = hashlib.sha256(np.asarray(arrays.labels).tobytes())
    for row in np.flatnonzero(np.asarray(arrays.labels) == 1):
        digest.update(np.packbits(arrays.masks[row]).tobytes())
    return int.from_bytes(digest.digest()[:8], "big")


def _compare(
    what: str, again: np.ndarray, first: np.ndarray, every: np.ndarray, spread_of: np.ndarray | None = None
) -> None:
    """Demand that each image be judged `again` as it was `first`; `every` holds what was said of those among which it
    is ranked, `spread_of` of those whose spread it is measured by (those of one class may all be nearly alike)."""
    spread_of = every if spread_of is None else spread_of
    spread = max(float(spread_of.max()) - float(spread_of.min()), 1e-12)
    moved = np.abs(again - first).reshape(len(first), -1).max(1) / spread
    known = np.sort(every.reshape(-1)[:: every.size // CANARY_PIXELS | 1])
    step = first[0].size // 4096 | 1  # odd, so that it is no multiple of a row

    def ranks(values: np.ndarray) -> np.ndarray:
        """Of each image, as shares of `every`, ties by half."""
        values = values.reshape(len(first), -1)[:, ::step]
        return (np.searchsorted(known, values, "left") + np.searchsorted(known, values, "right")) / (2 * len(known))

    # The share of `every` that each image has passed; of maps the mean over its pixels.
    passed, few = np.abs(ranks(again) - ranks(first)).mean(1), max(CANARY_PASSED, CANARY_TIES / every.size)
    wrong = ~((moved <= CANARY_TOLERANCE) & (passed <= few))
    jumped = (moved <= CANARY_JUMP) & (passed <= max(CANARY_JUMP_PASSED, few))
    if wrong.sum() > 1 or (wrong & ~jumped).any():
        raise CanaryError(
            f"{what} moved by {moved[wrong].max() * spread:.3g}, past {passed[wrong].max():.0%} of all others, when "
            f"{len(first)} test images were shown again, to another process, in another order and batch size: "
            "`predict` must judge each image on its own, from the weights and the state that was handed over."
        )
