"""On what a cell ran: machine, versions, commit."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

import bench
from bench.training.device import name_of, on_cpu
from bench.training.feature_names import processor

PACKAGES = ("torch", "torchvision", "avalanche-lib", "anomalib", "timm", "diffusers", "transformers", "numpy", "scipy")


def environment(device: str) -> dict:
    """Return the machine, the versions and the commit, for the cell file."""
    return {
        "device": name_of(device),
        "cpu": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": torch.__version__,
        "versions": {name: _version(name) for name in PACKAGES},
        "bench": bench.__version__,
        "commit": _commit(),
        "deterministic": on_cpu(device),  # some CUDA kernels have no deterministic form
    }


def machine(device: str) -> str:
    """The kind of machine whose costs compare: the name of the device, of a CPU the processor's."""
    return processor() if on_cpu(device) else name_of(device)


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
    except (OSError, subprocess.TimeoutExpired):
        return None  # no git on this machine, or one that is too busy: no reason to fail a cell
    return done.stdout.strip() or None
