"""What a run has cost so far, step by step, and what its methods note of themselves."""

import math
from typing import Any

from bench.evaluation.replay_fidelity import Quality
from bench.runner import cost, energy
from bench.schema.cell import DEVICE_PEAK, FEATURES, MICRO_BATCH, PER_STEP
from bench.wall.parent import Used

SIZES = ("parameters", "trainable_parameters", "detector_bytes")


class CostLog:
    """Grows by a line per step; `quality` measures how true the methods' memories are.

    `cached`: features of frozen networks may be kept, and how many images had or gave some is told.
    """

    def __init__(self, quality: Quality, device: str, cached: bool = False):
        self.quality, self.cached = quality, cached
        self.gpu, self.processor = cost.GpuMeter(device), energy.Rapl()
        self.cost: dict[str, list] = {name: [] for name in PER_STEP}
        self.notes: dict[str, list[float]] = {}
        self.sizes: dict[str, int] = dict.fromkeys(SIZES, 0)
        self.latency: dict[str, float] = {}
        self.peak_rss = 0

    def enter(self, line: dict[str, float], about: dict, told: dict[str, Any], features, used: Used) -> None:
        """Add the line of the step just trained and tested: `line` by name of PER_STEP, `about` as `Step.train` has it,
        `told` as `Step.tell`, images found and computed in `features`."""
        for name in PER_STEP:
            self.cost[name].append(line[name])
        t = len(self.cost["train_s"]) - 1
        for name, images in zip(FEATURES, features, strict=True):
            if self.cached or name in self.cost:
                _put(self.cost, name, t, images)
        if about["micro_batch"] is not None:
            _put(self.cost, MICRO_BATCH, t, about["micro_batch"] or math.nan)
        if told["gpu"] is not None:
            _put(self.cost, DEVICE_PEAK, t, told["gpu"]["allocated_bytes"])
        self.sizes = {name: about[name] for name in SIZES}
        self.peak_rss = max(self.peak_rss, used.peak_rss_bytes)
        self.gpu.sample(told["gpu"])
        for notes, recalled in zip(told["notes"], told["recalled"], strict=True):
            fidelity = self.quality.measure(recalled, t, notes.get("thumbnail_px"))
            for name, value in (notes | fidelity).items():
                _put(self.notes, name, t, value)

    def state(self) -> dict:
        """What a checkpoint keeps of it."""
        return {"cost": self.cost, "notes": self.notes, "peak_rss": self.peak_rss, "sizes": self.sizes}

    def restore(self, saved: dict) -> None:
        """Go on from what `state` gave."""
        steps = len(saved["cost"]["train_s"])  # an earlier version may not have counted all of it
        self.cost = {name: [math.nan] * steps for name in PER_STEP} | saved["cost"]
        self.notes = saved["notes"]
        self.peak_rss, self.sizes = saved["peak_rss"], saved["sizes"]

    def record(self) -> dict:
        """Its part of the cell file."""
        spent = self.cost | {"peak_rss_bytes": self.peak_rss, "ms_per_image": self.latency}
        spent |= {"gpu": self.gpu.report(), "cpu_energy_j": self.processor.joules()} | self.sizes
        return {"cost": spent} | ({"notes": self.notes} if self.notes else {})


def _put(lists: dict[str, list[float]], name: str, t: int, value: float) -> None:
    """Set a number of step `t`; earlier steps without one have NaN."""
    earlier = lists.get(name, [])
    lists[name] = earlier + [math.nan] * (t - len(earlier)) + [value]
