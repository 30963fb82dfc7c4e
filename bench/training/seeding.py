"""Random numbers: a seed of its own for each use, and kernels that give the same numbers again."""

import hashlib
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from bench.training.device import kept_draws


def seed_for(seed: int, *names: object) -> int:
    """A seed of its own for each named use, so that one component's draws cannot shift another's."""
    text = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def seed_everything(seed: int) -> None:
    """Start the three global generators anew."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@contextmanager
def untouched_draws() -> Iterator[None]:
    """Within, one may seed and draw; afterwards the three global generators go on as if nothing had been drawn."""
    before = random.getstate(), np.random.get_state()
    with kept_draws():
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
