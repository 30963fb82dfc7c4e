"""bfloat16 inside a detector's networks; what is done with their outputs (losses, maps, scores) stays float32.

PyTorch's autocast chooses what is computed in bfloat16: convolutions and matrix products, not the weights, not their
gradients, not the optimizer. It is entered and left with each network, so that whoever calls one (training, testing,
a method that distils) has the same numbers, and none of a detector's own arithmetic loses digits: 1 - cosine similarity
in bfloat16 has steps of 0.004.
"""

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from bench.training.detector import Detector

_entered: list[torch.autocast] = []  # not in the hooks: detectors are copied, and states of them compared


def reduce(detector: Detector, precision: str) -> Detector:
    """Let the `networks` of a detector compute in `precision`, float32 or bfloat16; they return float32 in any case."""
    if precision != "float32":
        for network in detector.networks():
            network.register_forward_pre_hook(_enter)
            network.register_forward_hook(_leave, always_call=True)
    return detector


def _enter(network: nn.Module, _) -> None:
    device = next(network.parameters()).device.type
    _entered.append(torch.autocast(device, torch.bfloat16))
    _entered[-1].__enter__()


def _leave(network: nn.Module, _, output):
    _entered.pop().__exit__(None, None, None)
    return tree_map_only(Tensor, lambda part: part.float() if part.dtype == torch.bfloat16 else part, output)
