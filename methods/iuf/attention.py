"""Object-aware self-attention: a small network on the image that tells its class and weighs another's queries."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class RowBlock(nn.Module):
    """Attention along the rows of a map (B, H, W, D), and two linear layers."""

    def __init__(self, width: int, hidden: int, heads: int = 4):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        rows = self.norm1(x).flatten(0, 1)  # (B * H, W, D)
        x = x + self.attention(rows, rows, rows, need_weights=False)[0].view_as(x)
        return x + self.mlp(self.norm2(x))


class ObjectAttention(nn.Module):
    """Images (B, 3, H, W) to query weights, one (B, size * size, out) per block, and class logits (B, classes)."""

    def __init__(self, width: int, hidden: int, classes: int, out: int, blocks: int):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 1), nn.BatchNorm2d(width), nn.ReLU())
        self.blocks = nn.ModuleList(RowBlock(width, hidden) for _ in range(blocks))
        self.head = nn.Sequential(nn.Linear(width, 256), nn.ReLU(), nn.Linear(256, classes))
        self.out = out

    def forward(self, image: Tensor, size: int) -> tuple[list[Tensor], Tensor]:
        x = self.stem(image).movedim(1, -1)
        weights = []
        for block in self.blocks:
            x = block(x)
            pooled = F.adaptive_avg_pool2d(x.detach().movedim(-1, 1), size).flatten(2).transpose(1, 2)
            weights.append(pooled if pooled.shape[2] == self.out else _widened(pooled, self.out))
        return weights, self.head(x.mean((1, 2)))


def _widened(weights: Tensor, out: int) -> Tensor:
    """Repeat channels where this network is narrower than the one whose queries it weighs."""
    return torch.repeat_interleave(weights, -(-out // weights.shape[2]), 2)[..., :out]
