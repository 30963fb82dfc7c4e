"""What a run has cost so far, step by step: what is told of it, and what the machine's own counters say meanwhile."""

import math
import re
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from bench.evaluation.replay_fidelity import Quality
from bench.schema.cell import DEVICE_PEAK, FEATURES, MICRO_BATCH, PER_STEP
from bench.training.device import nvml_handle
from bench.wall.state import entry_sizes, numbers_held

SIZES = ("parameters", "trainable_parameters", "detector_bytes")
POWERCAP = Path("/sys/class/powercap")
PACKAGE = re.compile(r"intel-rapl:\d+")  # its parts, as intel-rapl:0:0, are in it already
PERIOD_S = 30.0  # a counter of 2^18 J needs 9 minutes at 500 W to come round, so no turn is missed


class CostLog:
    """Grows by a line per step; `quality` measures how true the methods' memories are.

    `cached`: features of frozen networks may be kept, and how many images had or gave some is told.
    """

    def __init__(self, quality: Quality, device: str, cached: bool = False):
        self.quality, self.cached = quality, cached
        self.gpu, self.processor = GpuMeter(device), Rapl()
        self.cost: dict[str, list] = {name: [] for name in PER_STEP}
        self.notes: dict[str, list[float]] = {}
        self.sizes: dict[str, int] = dict.fromkeys(SIZES, 0)
        self.grown: list[str] = []  # entries of the detector's state that hold what it saw: its bank
        self.latency: dict[str, float] = {}
        self.peak_rss = 0

    def enter(
        self,
        line: dict[str, float],
        told: dict[str, Any],
        features: tuple[int, int],
        peak_rss: int,
        fresh: dict,
        carried: list[bytes],
    ) -> None:
        """Add the step just trained and tested.

        Its `line` has what PER_STEP names but the carried bytes, and `micro_batch`; `told` is what `Step.tell` gives,
        `features` the images found and computed in the cache, `peak_rss` in bytes, `fresh` the detector as it was
        built, `carried` what the step hands over.
        """
        grown, added = grown_by(carried[0], fresh)
        self.grown = grown_entries(carried[0], fresh)
        line = line | {"carried_bytes": sum(map(len, carried[1:])) + added}
        for name in PER_STEP:
            self.cost[name].append(line[name])
        t = len(self.cost["train_s"]) - 1
        for name, images in zip(FEATURES, features, strict=True):
            if self.cached or name in self.cost:
                _put(self.cost, name, t, images)
        if line["micro_batch"] is not None:
            _put(self.cost, MICRO_BATCH, t, line["micro_batch"] or math.nan)
        if told["gpu"] is not None:
            _put(self.cost, DEVICE_PEAK, t, told["gpu"]["allocated_bytes"])
        size = max(fresh["detector_bytes"] + grown, numbers_held(carried[0]))  # whatever it said
        self.sizes = {name: fresh[name] for name in SIZES} | {"detector_bytes": size}
        self.peak_rss = max(self.peak_rss, peak_rss)
        self.gpu.sample(told["gpu"])
        for notes, recalled in zip(told["notes"], told["recalled"], strict=True):
            fidelity = self.quality.measure(recalled, t, notes.get("thumbnail_px"))
            for name, value in (notes | fidelity).items():
                _put(self.notes, name, t, value)

    def state(self) -> dict:
        """What a checkpoint keeps of it."""
        so_far = {"cost": self.cost, "notes": self.notes, "peak_rss": self.peak_rss, "sizes": self.sizes}
        return so_far | {"grown": self.grown}

    def restore(self, saved: dict) -> None:
        """Go on from what `state` gave."""
        steps = len(saved["cost"]["train_s"])  # an earlier version may not have counted all of it
        self.cost = {name: [math.nan] * steps for name in PER_STEP} | saved["cost"]
        self.notes, self.grown = saved["notes"], saved.get("grown", [])
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


def grown_by(state: bytes, fresh: dict) -> tuple[int, int]:
    """Bytes by which a detector's state exceeds that of a `fresh` one, and those of them that are the method's.

    The method's is every byte of entries that a freshly built detector lacks, and by which others are longer, names,
    types, shapes and text counted. Not the method's are the numbers that fill what is built to grow: a memory bank, or
    the statistics of features.
    """
    before, now, added = fresh["entries"], entry_sizes(state), 0
    for name, (numbers, text) in now.items():
        had, told = before.get(name, (0, 0))
        added += max(0, text - told) + (0 if name in fresh["grows"] else max(0, numbers - had))
    whole = before | now  # what is left out of a state is as it was built
    return sum(map(sum, whole.values())) - sum(map(sum, before.values())), added


def grown_entries(state: bytes, fresh: dict) -> list[str]:
    """The entries of a detector's state that are built to grow, and hold more than in a `fresh` one."""
    now = entry_sizes(state)
    return [name for name in fresh["grows"] if name in now and now[name][0] > fresh["entries"].get(name, (0, 0))[0]]


class GpuMeter:
    """Peak memory by PyTorch's allocator in the method's process, utilisation and energy by NVML; nothing on a CPU."""

    def __init__(self, device: str):
        self.device, self.handle, self.utilisation = device, None, []
        self.peaks = {"allocated_bytes": 0, "reserved_bytes": 0}
        if device == "cpu":
            return
        if found := nvml_handle(device):  # NVML is optional: without it the columns stay empty
            self.nvml, self.handle = found
            self.start_mj = self.nvml.nvmlDeviceGetTotalEnergyConsumption(self.handle)

    def sample(self, peaks: dict[str, int] | None) -> None:
        """Note the utilisation of this moment, and the peaks that the allocator tells of a step."""
        for name, value in (peaks or {}).items():
            self.peaks[name] = max(self.peaks[name], value)
        if self.handle is not None:
            self.utilisation.append(self.nvml.nvmlDeviceGetUtilizationRates(self.handle).gpu)

    def report(self) -> dict[str, float | None] | None:
        """Return bytes, mean utilisation (0..1) and joules since the start; None on a CPU."""
        if self.device == "cpu":
            return None
        energy = None
        if self.handle is not None:
            energy = (self.nvml.nvmlDeviceGetTotalEnergyConsumption(self.handle) - self.start_mj) / 1000
        return self.peaks | {
            "utilisation": float(np.mean(self.utilisation)) / 100 if self.utilisation else None,
            "energy_j": energy,
        }


class Rapl:
    """Joules of all processor packages from now on, by RAPL: the counters of Linux's powercap tree.

    Nothing where they are absent or closed to us. Source: Documentation/power/powercap/powercap.rst of the kernel.
    """

    def __init__(self, root: Path = POWERCAP, period_s: float = PERIOD_S):
        """Begin to count; a daemon thread reads on every `period_s` seconds, where there is something to read."""
        self._lock, self._spent_uj, self._whole = threading.Lock(), 0, True
        try:
            found = [path for path in sorted(root.iterdir()) if PACKAGE.fullmatch(path.name)]
            self._packages = [path for path in found if (path / "name").read_text().startswith("package")]
            self._ranges = [int((path / "max_energy_range_uj").read_text()) for path in self._packages]
            self._last = [int((path / "energy_uj").read_text()) for path in self._packages]
        except (OSError, ValueError):
            self._packages, self._ranges, self._last = [], [], []

        def read_on() -> None:
            wait = threading.Event()
            while self._whole and not wait.wait(period_s):
                self.sample()

        if self._packages:
            threading.Thread(target=read_on, daemon=True).start()

    def joules(self) -> float | None:
        """Since the beginning; None where it cannot be read, or could not be in between."""
        self.sample()
        return self._spent_uj / 1e6 if self._packages and self._whole else None

    def sample(self) -> None:
        """Add what was spent since the last sample; a counter that fell has come round once."""
        with self._lock:
            try:
                now = [int((path / "energy_uj").read_text()) for path in self._packages]
            except (OSError, ValueError):
                self._whole = False
                return
            for before, after, most in zip(self._last, now, self._ranges, strict=True):
                self._spent_uj += after - before if after >= before else after + most - before
            self._last = now


class Neighbours:
    """How much of the machine's processors others use, from now on."""

    def __init__(self):
        self.before, self.own = psutil.cpu_times(), time.process_time()

    def share(self, of_method_s: float) -> float:
        """Processor seconds of others over those that all processors had, 0..1; `of_method_s`: the method's own."""
        spent = [now - then for now, then in zip(psutil.cpu_times(), self.before, strict=True)]
        spent = dict(zip(self.before._fields, spent, strict=True))
        # A guest's seconds are counted in the user's as well.
        all_of_it = math.fsum(seconds for name, seconds in spent.items() if not name.startswith("guest"))
        busy = all_of_it - spent["idle"] - spent.get("iowait", 0.0)
        others = busy - of_method_s - (time.process_time() - self.own)
        return max(0.0, others) / all_of_it if all_of_it > 0 else 0.0
