"""What the machine says of itself: the GPU, and what others do on its processors meanwhile."""

import math
import time

import numpy as np
import psutil

from bench.training.device import nvml_handle


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
