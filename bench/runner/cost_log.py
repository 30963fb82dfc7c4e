"""What a run has cost so far, step by step, and what its methods note of themselves."""

import math
from collections.abc import Sequence

from bench.evaluation.replay_fidelity import Quality
from bench.runner import cost, energy
from bench.schema.cell import FEATURES, MICRO_BATCH, PER_STEP
from bench.training.strategy import Strategy


class Ledger:
    """Grows by a line per step; `quality` measures how true the methods' memories are.

    `cached`: features of frozen networks may be kept, and how many images had or gave some is told.
    """

    def __init__(self, strategy: Strategy, quality: Quality, device: str, cached: bool = False):
        self.strategy, self.quality, self.device, self.cached = strategy, quality, device, cached
        self.gpu, self.extra, self.processor = cost.Gpu(device), cost.Stopwatch(device), energy.Rapl()
        for plugin in strategy.methods:
            self.extra.watch(plugin)
        self.cost: dict[str, list] = {name: [] for name in PER_STEP}
        self.notes: dict[str, list[float]] = {}
        self.latency: dict = {}

    def enter(
        self, train_s: float, train_cpu_s: float, eval_s: float, eval_images: int, features: Sequence[float]
    ) -> None:
        """Add the line of the step just trained and tested: seconds, test images shown, images per name of FEATURES."""
        methods = self.strategy.methods
        carried = sum(cost.carried_bytes(plugin.state_dict()) for plugin in methods)
        line = (train_s, train_cpu_s, eval_s, self.extra.lap(), self.strategy.train_images, eval_images, carried)
        for name, value in zip(PER_STEP, line, strict=True):
            self.cost[name].append(value)
        t = len(self.cost["train_s"]) - 1
        for name, images in zip(FEATURES, features, strict=True):
            if self.cached or name in self.cost:
                _put(self.cost, name, t, images)
        if self.strategy.auto_batch:
            _put(self.cost, MICRO_BATCH, t, self.strategy.auto_batch.micro_batch or math.nan)
        self._note(t)

    def _note(self, t: int) -> None:
        """What each method says of itself after step `t`, and how true its memory is."""
        for plugin in self.strategy.methods:
            for name, value in (plugin.report() | self.quality.measure(plugin, t)).items():
                _put(self.notes, name, t, value)

    def state(self) -> dict:
        """What a checkpoint keeps of it."""
        return {"cost": self.cost, "notes": self.notes}

    def restore(self, saved: dict) -> None:
        """Go on from what `state` gave."""
        self.cost, self.notes = saved["cost"], saved.get("notes", {})

    def time_predictions(self, side: int) -> None:
        """Milliseconds per image of `side` pixels, for the finished detector."""
        self.strategy.model.eval()
        self.latency = cost.latency(self.strategy.model.predict, side, self.device)

    def record(self) -> dict:
        """Its part of the cell file."""
        spent = self.cost | {"peak_rss_bytes": cost.peak_rss_bytes(), "ms_per_image": self.latency}
        spent |= {"gpu": self.gpu.report(), "cpu_energy_j": self.processor.joules()}
        spent |= cost.size_of(self.strategy.model)
        return {"cost": spent} | ({"notes": self.notes} if self.notes else {})


def _put(lists: dict[str, list[float]], name: str, t: int, value: float) -> None:
    """Set a number of step `t`; earlier steps without one have NaN."""
    earlier = lists.get(name, [])
    lists[name] = earlier + [math.nan] * (t - len(earlier)) + [value]
