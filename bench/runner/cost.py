"""What a cell costs: seconds, bytes, images, and what the GPU says of itself."""

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np
import torch
from avalanche.core import BaseSGDPlugin

from bench.training.batch import Prediction

LATENCY_BATCHES = (1, 32)


class Stopwatch:
    """Adds up the wall seconds spent inside; CUDA is waited for, so that queued work counts."""

    def __init__(self, device: str = "cpu"):
        self.seconds, self.device = 0.0, device

    @contextmanager
    def running(self) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            if self.device != "cpu":
                torch.cuda.synchronize()
            self.seconds += time.perf_counter() - start

    def watch(self, plugin: object) -> None:
        """Count the time inside every callback that an Avalanche plugin defines itself."""
        for name in dir(BaseSGDPlugin):
            if name.startswith(("before_", "after_")) and getattr(type(plugin), name) is not getattr(
                BaseSGDPlugin, name
            ):
                setattr(plugin, name, self._timed(getattr(plugin, name)))

    def _timed(self, callback):
        def timed(*args, **kwargs):
            with self.running():
                return callback(*args, **kwargs)

        return timed

    def lap(self) -> float:
        """Return the seconds so far and start again from zero."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds


def carried_bytes(state: object) -> int:
    """Bytes of everything numeric or textual in a nested plugin state."""
    if isinstance(state, torch.Tensor | np.ndarray):
        return state.nbytes
    if isinstance(state, bytes | str):
        return len(state)
    if isinstance(state, dict):
        return sum(carried_bytes(value) for value in state.values())
    if isinstance(state, list | tuple | set):
        return sum(carried_bytes(value) for value in state)
    return 8 if isinstance(state, int | float) and not isinstance(state, bool) else 0


def size_of(detector: torch.nn.Module) -> dict[str, int]:
    """Parameters (all, trainable) and bytes of a detector with its buffers."""
    parameters, buffers = list(detector.parameters()), list(detector.buffers())
    return {
        "parameters": sum(p.numel() for p in parameters),
        "trainable_parameters": sum(p.numel() for p in parameters if p.requires_grad),
        "detector_bytes": sum(t.nbytes for t in parameters + buffers),
    }


@torch.no_grad()
def latency(predict, image_size: int, device: str, budget_s: float = 1.0) -> dict[str, float]:
    """Milliseconds per image of `predict` at batch 1 and 32 after a warm-up: median of as many as fit the budget."""
    generator = torch.Generator().manual_seed(0)
    result = {}
    for batch in LATENCY_BATCHES:
        image = torch.rand(batch, 3, image_size, image_size, generator=generator).to(device)
        _time(predict, image, device)
        seconds, stop = [], time.perf_counter() + budget_s / len(LATENCY_BATCHES)
        while not seconds or (time.perf_counter() < stop and len(seconds) < 50):
            seconds.append(_time(predict, image, device))
        result[str(batch)] = 1000 * float(np.median(seconds)) / batch
    return result


def _time(predict, image: torch.Tensor, device: str) -> float:
    start = time.perf_counter()
    prediction: Prediction = predict(image)
    if device != "cpu":
        torch.cuda.synchronize()
    else:
        prediction.score.sum().item()
    return time.perf_counter() - start


def peak_rss_bytes() -> int:
    """Highest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Gpu:
    """Peak memory by PyTorch's allocator, utilisation and energy by NVML; nothing on a CPU."""

    def __init__(self, device: str):
        self.device, self.handle, self.utilisation = device, None, []
        if device == "cpu":
            return
        torch.cuda.reset_peak_memory_stats()
        with suppress(ImportError, OSError):  # NVML is optional: without it the columns stay empty
            import pynvml

            pynvml.nvmlInit()
            self.nvml, self.handle = pynvml, pynvml.nvmlDeviceGetHandleByIndex(torch.cuda.current_device())
            self.start_mj = pynvml.nvmlDeviceGetTotalEnergyConsumption(self.handle)

    def sample(self) -> None:
        """Note the utilisation of this moment."""
        if self.handle is not None:
            self.utilisation.append(self.nvml.nvmlDeviceGetUtilizationRates(self.handle).gpu)

    def report(self) -> dict[str, float | None] | None:
        """Return bytes, mean utilisation (0..1) and joules since the start; None on a CPU."""
        if self.device == "cpu":
            return None
        energy = None
        if self.handle is not None:
            energy = (self.nvml.nvmlDeviceGetTotalEnergyConsumption(self.handle) - self.start_mj) / 1000
        return {
            "allocated_bytes": torch.cuda.max_memory_allocated(),
            "reserved_bytes": torch.cuda.max_memory_reserved(),
            "utilisation": float(np.mean(self.utilisation)) / 100 if self.utilisation else None,
            "energy_j": energy,
        }
