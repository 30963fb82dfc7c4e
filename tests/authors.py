"""The U-Net of DDAD's authors under the names of their checkpoints, written from its description: for comparison."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Residual(nn.Module):
    """Group norm, SiLU, resampling, convolution; the time is added; the same again; plus a shortcut."""

    def __init__(self, a: int, b: int, time: int, groups: int, resample: str = ""):
        super().__init__()
        self.resample = resample
        self.in_layers = nn.Sequential(nn.GroupNorm(groups, a), nn.SiLU(), nn.Conv2d(a, b, 3, padding=1))
        self.embed_layers = nn.Sequential(nn.SiLU(), nn.Linear(time, b))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(groups, b), nn.SiLU(), nn.Dropout(0), nn.Conv2d(b, b, 3, padding=1)
        )
        self.skip_connection = nn.Identity() if a == b else nn.Conv2d(a, b, 1)

    def resampled(self, x: Tensor) -> Tensor:
        if self.resample == "down":
            return F.avg_pool2d(x, 2)
        return F.interpolate(x, scale_factor=2) if self.resample == "up" else x

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        h = self.in_layers[2](self.resampled(self.in_layers[:2](x))) + self.embed_layers(time)[..., None, None]
        return self.out_layers(h) + self.skip_connection(self.resampled(x))


class Attention(nn.Module):
    """Queries, keys and values of one head lie together, then those of the next."""

    def __init__(self, channels: int, heads: int, groups: int):
        super().__init__()
        self.heads, self.norm = heads, nn.GroupNorm(groups, channels)
        self.to_qkv, self.proj_out = nn.Conv1d(channels, 3 * channels, 1), nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor, _time: Tensor) -> Tensor:
        flat = x.flatten(2)
        q, k, v = self.to_qkv(self.norm(flat)).unflatten(1, (self.heads, 3, -1)).unbind(2)  # (B, heads, c, places)
        weight = torch.softmax(q.mT @ k / math.sqrt(q.shape[2]), dim=-1)
        return (flat + self.proj_out((v @ weight.mT).flatten(1, 2))).view_as(x)


class Network(nn.Module):
    """Levels of `layers` residual blocks, with attention where `attended`; one more on the way up."""

    def __init__(self, channels, attended, *, layers: int, heads: int, groups: int):
        super().__init__()
        base, time = channels[0], 4 * channels[0]
        self.base = base
        self.time_embedding = nn.Sequential(nn.Identity(), nn.Linear(base, time), nn.SiLU(), nn.Linear(time, time))

        def level(a, b, attention):
            parts = [Residual(a, b, time, groups)]
            return nn.ModuleList([*parts, Attention(b, heads, groups)] if attention else parts)

        self.down, widths, before = nn.ModuleList([nn.ModuleList([nn.Conv2d(3, base, 3, padding=1)])]), [base], base
        for i, (width, attention) in enumerate(zip(channels, attended, strict=True)):
            for _ in range(layers):
                self.down.append(level(before, width, attention))
                widths.append(width)
                before = width
            if i < len(channels) - 1:
                self.down.append(nn.ModuleList([Residual(width, width, time, groups, "down")]))
                widths.append(width)
        self.middle = nn.ModuleList(
            [
                Residual(before, before, time, groups),
                Attention(before, heads, groups),
                Residual(before, before, time, groups),
            ]
        )
        self.up = nn.ModuleList()
        for i, (width, attention) in reversed(list(enumerate(zip(channels, attended, strict=True)))):
            for j in range(layers + 1):
                parts = level(before + widths.pop(), width, attention)
                before = width
                if i and j == layers:
                    parts.append(Residual(width, width, time, groups, "up"))
                self.up.append(parts)
        self.out = nn.Sequential(nn.GroupNorm(groups, base), nn.SiLU(), nn.Conv2d(base, 3, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        rate = torch.exp(torch.arange(self.base // 2) * -(math.log(10_000) / (self.base // 2)))
        angle = t[:, None] * rate
        time = self.time_embedding(torch.cat([angle.sin(), angle.cos()], 1))
        x, kept = self.down[0][0](x), []
        kept.append(x)
        for parts in self.down[1:]:
            for part in parts:
                x = part(x, time)
            kept.append(x)
        for part in self.middle:
            x = part(x, time)
        for parts in self.up:
            x = torch.cat([x, kept.pop()], 1)
            for part in parts:
                x = part(x, time)
        return self.out(x)
