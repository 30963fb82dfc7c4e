"""The anomaly-masked network: what a place holds is told from places farther off, so that a defect is not passed on."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.api import BadInput


class AnomalyMasked(nn.Module):
    """Convolutional stem, then a transformer whose places do not see their neighbourhood (One-for-More, section 3).

    Images (B, 3, H, W) become conditions (B, width, H / factor, W / factor). `stem` gives the channels of all its
    convolutions but the last; as many of them halve as `factor` asks for, every second one from the third on.
    """

    def __init__(self, stem: Sequence[int], width: int, factor: int, side: int, layers: int, heads: int, hidden: int,
                 neighbourhood: int, dropout: float):  # fmt: skip
        super().__init__()
        self.stem = _stem((3, *stem, width), factor)
        self.layers = nn.ModuleList(Layer(width, heads, hidden, dropout) for _ in range(layers))
        self.register_buffer("position", position_code(side, width), persistent=False)
        self.register_buffer("visible", visible(side, neighbourhood), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        condition = self.stem(image)
        tokens = condition.flatten(2).transpose(1, 2)  # (B, places, width)
        for layer in self.layers:
            tokens = layer(tokens, self.position, self.visible)
        return tokens.transpose(1, 2).reshape(condition.shape)


class Layer(nn.Module):
    """A post-norm encoder layer; the position code joins queries and keys only.

    Queries, keys and values have a linear layer each, because values see an input without the position.
    """

    def __init__(self, width: int, heads: int, hidden: int, dropout: float):
        super().__init__()
        self.heads, self.dropout = heads, nn.Dropout(dropout)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.widen, self.narrow = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor, position: Tensor, visible: Tensor) -> Tensor:
        placed = x + position
        query, key, value = map(self._split, (self.query(placed), self.key(placed), self.value(x)))
        rate = self.dropout.p if self.dropout.training else 0.0
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=visible, dropout_p=rate)
        x = self.norm1(x + self.dropout(self.out(seen.transpose(1, 2).flatten(2))))
        made = self.narrow(self.dropout(F.relu(self.widen(x))))
        return self.norm2(x + self.dropout(made))

    def _split(self, x: Tensor) -> Tensor:
        """(B, places, width) to (B, heads, places, width / heads)."""
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


def _stem(channels: Sequence[int], factor: int) -> nn.Sequential:
    halving = [2 * (i + 1) for i in range(factor.bit_length() - 1)]
    if halving and halving[-1] >= len(channels) - 1:
        raise BadInput(f"amn_diffusion.stem={tuple(channels[1:-1])} is too short to halve {len(halving)} times.")
    layers = []
    for i, (a, b) in enumerate(pairwise(channels)):
        layers += [nn.Conv2d(a, b, 3, 2 if i in halving else 1, 1, bias=False), nn.SiLU()]
    return nn.Sequential(*layers[:-1])


def visible(side: int, neighbourhood: int) -> Tensor:
    """(places, places): True where the place of a row may look; not into its own square of `neighbourhood` places."""
    reach = neighbourhood // 2
    if reach >= side // 2:  # seen from the middle
        raise BadInput(
            f"amn_diffusion.neighbourhood={neighbourhood} hides all of the {side} x {side} places; give a smaller one."
        )
    place = torch.arange(side**2)
    row, column = place // side, place % side
    near = ((row[:, None] - row).abs() <= reach) & ((column[:, None] - column).abs() <= reach)
    return ~near


def position_code(side: int, width: int, temperature: float = 10_000.0) -> Tensor:
    """(places, width): sines and cosines of the row in the first half, of the column in the second."""
    pairs = width // 4
    frequency = temperature ** (-torch.arange(pairs) / pairs)
    angle = (torch.arange(1, side + 1) / side * 2 * math.pi)[:, None] * frequency  # (side, pairs)
    code = torch.stack([angle.sin(), angle.cos()], 2).flatten(1)  # (side, width / 2)
    rows, columns = code[:, None].expand(-1, side, -1), code[None].expand(side, -1, -1)
    return torch.cat([rows, columns], 2).flatten(0, 1)
