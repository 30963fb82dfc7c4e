"""Networks beside twins written anew from the papers' descriptions in torch's own layers: same weights, same output.

DDAD's U-Net has its twin in tests/authors.py, anomalib's detectors theirs in tests/test_equivalence_*.py.
"""

import math

import pytest
import torch
from test_own_detectors import invert
from torch import Tensor, nn
from torch.nn import functional as F

from methods.detectors.amn_diffusion.masked import AnomalyMasked

pytestmark = pytest.mark.slow

SIDE, WIDTH, HEADS = 8, 16, 4
STEM = (4, 4, 8, 8, 8, 8, 16)
STRIDES = (1, 1, 2, 1, 2, 1, 2, 1)


def sine_code(side: int, width: int) -> Tensor:
    """DETR's normalised position code (side², width), number by number: rows first, then columns."""
    code = torch.empty(side, side, width)
    for row in range(side):
        for column in range(side):
            for half, place in enumerate((row, column)):
                for i in range(width // 2):
                    angle = (place + 1) / (side + 1e-6) * 2 * math.pi / 10_000 ** (2 * (i // 2) / (width // 2))
                    code[row, column, half * width // 2 + i] = math.cos(angle) if i % 2 else math.sin(angle)
    return code.flatten(0, 1)


def hidden_places(side: int, neighbourhood: int) -> Tensor:
    """Additive attention mask (side², side²): minus infinity on the square around a place, itself included."""
    mask, reach = torch.zeros(side, side, side, side), neighbourhood // 2
    for row in range(side):
        for column in range(side):
            rows = slice(max(row - reach, 0), row + reach + 1)
            mask[row, column, rows, max(column - reach, 0) : column + reach + 1] = -math.inf
    return mask.view(side**2, side**2)


class Encoder(nn.Module):
    """A post-norm layer around torch's packed attention; queries and keys get the position, values do not."""

    def __init__(self, width: int, heads: int, hidden: int):
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads)
        self.widen, self.narrow = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor, position: Tensor, mask: Tensor) -> Tensor:
        placed = x + position[:, None]
        x = self.norm1(x + self.attention(placed, placed, x, attn_mask=mask, need_weights=False)[0])
        return self.norm2(x + self.narrow(F.relu(self.widen(x))))


def test_the_anomaly_masked_network_is_its_twin():
    torch.manual_seed(0)
    ours = AnomalyMasked(STEM, WIDTH, 8, SIDE, 2, HEADS, 20, 3, 0.1).eval()
    twins = [Encoder(WIDTH, HEADS, 20) for _ in ours.layers]
    for layer, twin in zip(ours.layers, twins, strict=True):
        parts = layer.query, layer.key, layer.value
        packed = {f"in_proj_{kind}": torch.cat([getattr(part, kind) for part in parts]) for kind in ("weight", "bias")}
        twin.attention.load_state_dict(
            packed | {f"out_proj.{name}": value for name, value in layer.out.state_dict().items()}
        )
        for name in ("widen", "narrow", "norm1", "norm2"):
            getattr(twin, name).load_state_dict(getattr(layer, name).state_dict())
    image = torch.randn(2, 3, 8 * SIDE, 8 * SIDE)
    with torch.no_grad():
        x = image
        for i, (layer, stride) in enumerate(zip(ours.stem[::2], STRIDES, strict=True)):
            x = F.conv2d(x if i == 0 else F.silu(x), layer.weight, stride=stride, padding=1)
        torch.testing.assert_close(ours.stem(image), x, atol=1e-5, rtol=1e-5)
        tokens = x.flatten(2).permute(2, 0, 1)
        for twin in twins:
            tokens = twin(tokens, sine_code(SIDE, WIDTH), hidden_places(SIDE, 3))
        wanted = tokens.permute(1, 2, 0).view_as(x)
        torch.testing.assert_close(ours(image), wanted, atol=1e-5, rtol=1e-5)


def equal(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A convolution whose weights are scaled by 1 / √(fan in) at run time."""
    fan_in = weight[0].numel()
    return F.conv2d(x, weight / math.sqrt(fan_in), bias, padding=weight.shape[-1] // 2)


def leaky(x: Tensor, bias: Tensor) -> Tensor:
    x = x + bias.view(1, -1, 1, 1)
    return torch.maximum(x, 0.2 * x) * 2**0.5


def up(x: Tensor, weight: Tensor, rate: float = 1.0) -> Tensor:
    """StyleGAN2's: zeros between the places, the kernel turned round, then a blur by [1, 3, 3, 1] that sums to 4."""
    kernel, (count, channels, height, width) = weight.shape[-1], x.shape
    spread = x.new_zeros(count, channels, 2 * height - 1, 2 * width - 1)
    spread[..., ::2, ::2] = x
    made = F.conv2d(F.pad(spread, [kernel - 1] * 4), weight.flip(2, 3) * rate / math.sqrt(weight[0].numel()))
    spare = 4 - 2 - (kernel - 1)
    made = F.pad(made, [(spare + 1) // 2 + 1, spare // 2 + 1] * 2)
    taps = (0.25, 0.75, 0.75, 0.25)
    for axis in (2, 3):
        made = sum(tap * made.narrow(axis, i, made.shape[axis] - 3) for i, tap in enumerate(taps))
    return made


class Twin:
    """InvAD's fuser and generator as functions of the weights `w`, by their names."""

    def __init__(self, weights: dict[str, Tensor]):
        self.w = weights

    def two(self, x: Tensor, name: str) -> Tensor:
        """Two equalised convolutions, each with its activation."""
        for i in range(2):
            x = leaky(equal(x, self.w[f"{name}.{i}.0.weight"]), self.w[f"{name}.{i}.1.bias"])
        return x

    def norm(self, x: Tensor, name: str) -> Tensor:
        mean, variance, gain, bias = (
            self.w[f"{name}.{part}"].view(1, -1, 1, 1) for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (variance + 1e-5).sqrt() * gain + bias

    def styles(self, features: list[Tensor]) -> list[Tensor]:
        w = self.w
        shrunk = [
            self.norm(
                F.conv2d(each, w[f"fuser.down.{i}.0.weight"], w[f"fuser.down.{i}.0.bias"], stride=4 // 2**i),
                f"fuser.down.{i}.1",
            )
            for i, each in enumerate(features)
        ]
        code = F.relu(self.norm(F.conv2d(torch.cat(shrunk, 1), w["fuser.fuse.0.weight"]), "fuser.fuse.1"))
        inner, name = code, "fuser.fuse.3"
        for i in (1, 2, 3):
            inner = F.conv2d(inner, w[f"{name}.conv{i}.weight"], padding=int(i == 2))
            inner = self.norm(inner, f"{name}.bn{i}")
            inner = F.relu(inner if i < 3 else inner + code)
        found = [self.two(inner, "fuser.stages.0")]
        for name in ("fuser.stages.1", "fuser.stages.2"):
            grown = leaky(up(found[-1], w[f"{name}.0.weight"], 0.01), w[f"{name}.1.bias"])
            found.append(leaky(equal(grown, w[f"{name}.2.0.weight"]), w[f"{name}.2.1.bias"]))
        return found

    def styled(self, x: Tensor, style: Tensor, name: str, *, grow: bool) -> Tensor:
        x = (x - x.mean((1, 2, 3), keepdim=True)) / (x.var((1, 2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
        if not grow:
            gain, shift = (
                equal(style, self.w[f"{name}.{part}.weight"], self.w[f"{name}.{part}.bias"])
                for part in ("scale", "shift")
            )
            x = x * gain + shift
        made = up(x, self.w[f"{name}.conv.weight"]) if grow else equal(x, self.w[f"{name}.conv.weight"])
        return leaky(made, self.w[f"{name}.activation.bias"])

    def restored(self, styles: list[Tensor]) -> list[Tensor]:
        w, found = self.w, []
        x = equal(w["generator.constant"].expand(len(styles[0]), -1, -1, -1), w["generator.first.0.weight"])
        x = leaky(x, w["generator.first.1.bias"])
        for level, style in enumerate(styles):
            style = self.two(style, f"generator.modulations.{level}")
            for block in range(2):
                name, grow = f"generator.levels.{level}.{block}", level > 0 and block == 0
                inner = self.styled(x, style, f"{name}.one", grow=grow)
                inner = self.styled(inner, style, f"{name}.two", grow=False)
                skip = w[f"{name}.skip.weight"]
                x = (inner + (up(x, skip) if grow else equal(x, skip))) / 2**0.5
            found.append(x)
        return found[::-1]


def test_invad_is_its_twin():
    net = invert().double().eval()
    with torch.no_grad():
        for name, value in net.state_dict().items():  # nothing stays where it began, the norms' statistics included
            if value.is_floating_point() and not name.startswith("encoder"):
                value += 0.1 * torch.rand_like(value)
        features = [
            torch.rand(2, channels, 16 // 2**i, 16 // 2**i).double() for i, channels in enumerate(net.encoder.channels)
        ]
        twin = Twin(net.state_dict())
        styles = twin.styles(features)
        for ours, wanted in zip(net.fuser(features), styles, strict=True):
            torch.testing.assert_close(ours, wanted)
        for ours, wanted in zip(net.generator(styles), twin.restored(styles), strict=True):
            torch.testing.assert_close(ours, wanted)
