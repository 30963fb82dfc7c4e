"""Directions of a layer's outputs: pressed into few at the first step, and protected by their strength afterwards."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

ROWS, DROPPED = 768, 48  # most outputs that the compression looks at, and how many go when there are more


class Compression:
    """Looks at the outputs of decoder layers (B, n, D), averaged over places, and punishes small singular values."""

    def __init__(self, layers: Iterable[nn.Module], width: int):
        self.width, self.kept = width, []
        self.now: dict[int, Tensor] = {}
        self.handles = []
        for number, layer in enumerate(layers):
            self.kept.append(torch.empty(0, width))
            self.handles.append(layer.register_forward_hook(self._see(number)))

    def _see(self, number: int):
        def see(module: nn.Module, inputs, output: Tensor) -> None:
            if module.training:
                self.now[number] = output.mean(1)

        return see

    def loss(self) -> Tensor:
        """Mean over layers of the sum of normalised singular values that lie below a tenth of their even share."""
        parts = []
        for number, new in self.now.items():
            rows = torch.cat([self.kept[number].to(new.device), new])
            if len(rows) > ROWS:
                rows = rows[DROPPED:]
            self.kept[number] = rows.detach()
            values = torch.linalg.svdvals(rows)
            share = values / values.sum().clamp(min=1e-12)
            parts.append(share[share < 0.1 / self.width].sum())
        self.now = {}
        return torch.stack(parts).mean()

    def stop(self) -> None:
        """See no more: only the first step is compressed."""
        for handle in self.handles:
            handle.remove()
        self.now, self.kept = {}, [rows[:0] for rows in self.kept]


def basis(moment: Tensor) -> Tensor:
    """Right singular vectors of outputs by their second moment (D, D): one per row, the strongest first."""
    return torch.linalg.eigh(moment.double()).eigenvectors.flip(1).T.float()


def weigh(gradient: Tensor, directions: Tensor) -> Tensor:
    """A gradient (D, n) with its part along row c of `directions` (D, D) times log(c + 1) / log D: 0 to 1."""
    count = len(directions)
    weights = torch.arange(1, count + 1, device=gradient.device).log() / math.log(count)
    return directions.T @ (weights[:, None] * (directions @ gradient))
