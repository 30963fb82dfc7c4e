"""On what a cell ran: machine, versions, commit."""

import os
import platform
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

import bench
from bench.training.device import name_of, on_cpu
from bench.training.feature_names import processor

PACKAGES = ("torch", "torchvision", "avalanche-lib", "anomalib", "timm", "diffusers", "transformers", "numpy", "scipy")


def environment(device: str) -> dict:
    """Return the machine, the versions and the commit, for the cell file."""
    versions, commit = dict.fromkeys(PACKAGES), None
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    git = ["git", "-C", str(Path(bench.__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    with suppress(OSError, subprocess.TimeoutExpired):  # no git on this machine, or a busy one, fails no cell
        commit = subprocess.run(git, capture_output=True, text=True, timeout=10, check=False).stdout.strip() or None
    return {
        "device": name_of(device),
        "cpu": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": torch.__version__,
        "versions": versions,
        "bench": bench.__version__,
        "commit": commit,
        "deterministic": on_cpu(device),  # some CUDA kernels have no deterministic form
    }


def machine(device: str) -> str:
    """The kind of machine whose costs compare: the name of the device, of a CPU the processor's."""
    return processor() if on_cpu(device) else name_of(device)
