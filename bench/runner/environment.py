"""On what a cell ran: machine, versions, commit. And how its random numbers are drawn."""

import hashlib
import os
import platform
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch

import bench

PACKAGES = ("torch", "torchvision", "avalanche-lib", "anomalib", "timm", "diffusers", "transformers", "numpy", "scipy")


def environment(device: str) -> dict:
    """Return the machine, the versions and the commit, for the cell file."""
    return {
        "device": torch.cuda.get_device_name() if device != "cpu" else "cpu",
        "cpu": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": torch.__version__,
        "versions": {name: _version(name) for name in PACKAGES},
        "bench": bench.__version__,
        "commit": _commit(),
        "deterministic": device == "cpu",  # some CUDA kernels have no deterministic form
    }


@cache
def processor() -> str:
    """Name of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    folder = Path(bench.__file__).parent
    try:
        git = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"]
        done = subprocess.run(git, capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return None  # no git on this machine
    return done.stdout.strip() or None


def seed_for(seed: int, *names: object) -> int:
    """A seed of its own for each named use, so that one component's draws cannot shift another's."""
    text = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def seed_everything(seed: int) -> None:
    """Start the three global generators anew; per step, so that a resumed step draws what it would have drawn."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@contextmanager
def untouched_draws() -> Iterator[None]:
    """Within, one may seed and draw; afterwards the three global generators go on as if nothing had been drawn."""
    before = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])


def make_deterministic(threads: int) -> None:
    """Ask for repeatable kernels and a fixed number of threads."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    torch.set_num_threads(threads)
