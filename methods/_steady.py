"""Runs a detector as at test time, and leaves no trace: for looking at it while it is being trained."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F


@contextmanager
def steady(detector: nn.Module) -> Iterator[None]:
    """Within, norms use their running statistics and change them no more, dropout is off, and no draw counts.

    Only the layers without children change mode: a model of anomalib answers differently when it is not training.
    """
    layers = [module for module in detector.modules() if module.training and not any(module.children())]
    generators = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(_devices(detector)):
        try:
            for layer in layers:
                layer.training = False
            yield
        finally:
            for layer in layers:
                layer.training = True
            random.setstate(generators[0])
            np.random.set_state(generators[1])


def _devices(detector: nn.Module) -> list[torch.device]:
    return list({parameter.device for parameter in detector.parameters() if parameter.is_cuda})


def mean_squared(now: Sequence[Tensor], then: Sequence[Tensor]) -> Tensor:
    """Mean squared difference of two responses, each part (B, ...) weighing the same whatever its size."""
    return torch.stack([F.mse_loss(a, b) for a, b in zip(now, then, strict=True)]).mean()
