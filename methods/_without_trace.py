"""Runs a detector as at test time, and leaves no trace: for looking at it while it is being trained."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _NormBase

from bench.api import kept_draws


@contextmanager
def without_trace(detector: nn.Module, *, by_batch: bool = False) -> Iterator[None]:
    """Within, dropout is off, no draw counts, and norms use their running statistics without changing them.

    With `by_batch`, norms in training use the statistics of the batch instead, still without keeping them.
    Only the layers without children change mode: a model of anomalib answers differently when it is not training.
    """
    switches = [
        (layer, "track_running_stats" if by_batch and isinstance(layer, _NormBase) else "training")
        for layer in detector.modules()
        if layer.training and not any(layer.children())
    ]
    before = [getattr(layer, switch) for layer, switch in switches]
    generators = random.getstate(), np.random.get_state()
    with kept_draws():
        try:
            for layer, switch in switches:
                setattr(layer, switch, False)
            yield
        finally:
            for (layer, switch), value in zip(switches, before, strict=True):
                setattr(layer, switch, value)
            random.setstate(generators[0])
            np.random.set_state(generators[1])


def drift(now: Sequence[Tensor], then: Sequence[Tensor]) -> Tensor:
    """Mean squared difference of two responses, part by part relative to the mean square of the earlier one.

    Relative, because features have any scale: 0 is no change, 1 is as much as if the response had vanished.
    """
    size = torch.finfo(torch.float32).eps
    parts = [F.mse_loss(a, b) / b.square().mean().clamp_min(size) for a, b in zip(now, then, strict=True)]
    return torch.stack(parts).mean()
