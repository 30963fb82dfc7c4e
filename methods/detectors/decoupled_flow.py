"""DeCoFlow's detector: a normalizing flow over patch features, a frozen base with small adapters of the step's own.

DeCoFlow, arXiv:2606.26687. Features of two strides, 3 x 3 neighbourhoods pooled to `width` numbers, plus a position
code; then, per patch: an affine alignment of the step (TSA), a spatial mixer, affine couplings whose linear layers are
a base plus a low-rank adapter (DCL), and two couplings of the step alone (ACL). What belongs to the step alone has a
name with `task_`. The authors train with AdamP where it is installed and AdamW otherwise; this is AdamW.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from FrEIA.modules import AllInOneBlock
from sklearn.covariance import ledoit_wolf
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from bench.api import Detector, Prediction, Setup, clip, smooth, trainable

TRAITS = ("gradient", "task_adapters")
BACKBONE = "wide_resnet50_2"
RIDGE = 1e-5  # on the diagonal of a covariance


@dataclass(frozen=True)
class Config:
    epochs: int = 60
    batch_size: int = 16
    lr: float = 3e-4  # AdamW with weight decay 1e-4; cosine to a hundredth, gradient cut at norm 0.5
    warmup: int = 2  # epochs until the rate is reached, from the second step on
    strides: tuple[int, ...] = (8, 16)  # layer2 and layer3 of a ResNet
    width: int = 768  # numbers that a patch is pooled to
    couplings: int = 6  # of the flow that all steps share
    hidden: int = 768  # units of a coupling's networks; half of it in the step's own couplings
    rank: int = 64  # of the adapters
    tail_weight: float = 0.7  # of the worst patches in the loss
    tail: float = 0.02  # share of an image's patches that counts as worst
    ledoit_wolf: bool = False  # shrink the router's covariance; else only a ridge, singular below `width` images
    sigma: float = 4.0  # px, smoothing of the map

    @classmethod
    def tiny(cls) -> "Config":
        return cls(epochs=6, lr=2e-3, width=32, couplings=3, hidden=32, rank=4, sigma=1.5)


def build(config: Config, setup: Setup) -> Detector:
    return DecoupledFlow(config, setup)


class DecoupledFlow(Detector):
    """The flow with the adapters of one step; the adapters of several steps where a method routes between them."""

    def __init__(self, config: Config, setup: Setup):
        super().__init__()
        self.config, self.epochs, self.batch_size = config, config.epochs, config.batch_size
        self.features = setup.features(*config.strides)
        self.flow = Flow(config)
        self.register_buffer("mean", torch.zeros(config.width))
        self.register_buffer("precision", torch.eye(config.width))
        self.later = False  # whether the base is frozen
        self.memories: list[dict] = []  # if set, predict with the nearest of these

    def begin_task(self) -> None:
        """Freeze the base, and start the step's own adapters anew."""
        self.later = True
        for name, parameter in self.flow.named_parameters():
            parameter.requires_grad_(is_of_task(name))
        self.flow.reset_task(later=True)

    def optimizer(self) -> torch.optim.Optimizer:
        return clip(torch.optim.AdamW(trainable(self.flow), self.config.lr, weight_decay=1e-4), 0.5)

    def scheduler(self, optimizer, iterations: int) -> torch.optim.lr_scheduler.LRScheduler:
        warmup = self.config.warmup * iterations // self.epochs if self.later else 0

        def factor(batch: int) -> float:
            if batch < warmup:
                return (batch + 1) / warmup
            done = (batch - warmup) / max(1, iterations - warmup)
            return 0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2

        return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)

    @torch.no_grad()
    def embed(self, image: Tensor) -> Tensor:
        """Patch features (B, h, w, width): neighbourhoods of each stride, pooled over channels, averaged."""
        maps = list(self.features(image).values())
        grid = maps[0].shape[-2:]
        pooled = []
        for found in maps:
            around = F.unfold(found, 3, padding=1).transpose(1, 2)  # (B, places, 9 C)
            numbers = F.adaptive_avg_pool1d(around, self.config.width).transpose(1, 2)
            pooled.append(F.interpolate(numbers.unflatten(2, found.shape[-2:]), grid, mode="bilinear"))
        return torch.stack(pooled).mean(0).movedim(1, -1)

    def response(self, image: Tensor) -> list[Tensor]:
        return [self.flow(self.embed(image))[0]]

    def loss(self, image: Tensor) -> Tensor:
        latent, determinant = self.flow(self.embed(image))
        surprise = negative_log_likelihood(latent, determinant).flatten(1)
        worst = surprise.topk(max(1, int(self.config.tail * surprise.shape[1])), 1).values
        weight = self.config.tail_weight
        return (1 - weight) * surprise.mean() + weight * worst.mean() + 1e-4 * determinant.square().mean()

    @torch.no_grad()
    def consolidate(self, images: Iterable[Tensor]) -> None:
        """Mean and covariance of the images' averaged features, by which they are routed."""
        pooled = torch.cat([self.embed(image).mean((1, 2)) for image in images])
        self.mean = pooled.mean(0)
        if self.config.ledoit_wolf:
            covariance = torch.from_numpy(ledoit_wolf(pooled.double().cpu().numpy())[0])
        else:
            covariance = torch.cov(pooled.T.double(), correction=min(1, len(pooled) - 1)).cpu()
        covariance += RIDGE * torch.eye(len(covariance))
        self.precision = torch.linalg.inv(covariance).float().contiguous().to(pooled.device)

    def take_memory(self) -> dict:
        """Hand over a copy of what belongs to the step just learned: its adapters and its router."""
        own = {name: value.detach().clone() for name, value in self.flow.named_parameters() if is_of_task(name)}
        return {"adapters": own, "mean": self.mean.clone(), "precision": self.precision.clone()}

    def route_to(self, memories: list[dict]) -> None:
        """Predict each image with the one of `memories` at the smallest Mahalanobis distance."""
        self.memories = memories

    def predict(self, image: Tensor) -> Prediction:
        grid = self.embed(image)
        route = None
        if self.memories:
            pooled = grid.mean((1, 2))
            far = [mahalanobis(pooled - memory["mean"], memory["precision"]) for memory in self.memories]
            route = torch.stack(far).argmin(0)
            parts = [
                functional_call(self.flow, self.memories[int(t)]["adapters"], (one[None],))
                for t, one in zip(route, grid, strict=True)
            ]
            latent, determinant = (torch.cat(part) for part in zip(*parts, strict=True))
        else:
            latent, determinant = self.flow(grid)
        surprise = negative_log_likelihood(latent, determinant)  # (B, h, w)
        score = surprise.flatten(1).topk(min(3, surprise[0].numel()), 1).values.mean(1)
        anomaly_map = F.interpolate(surprise[:, None], image.shape[-2:], mode="bicubic")
        return Prediction(score, smooth(anomaly_map, self.config.sigma), route)


def is_of_task(name: str) -> bool:
    """Whether a parameter of the flow belongs to one step alone."""
    return "task_" in name


def negative_log_likelihood(latent: Tensor, determinant: Tensor) -> Tensor:
    """-log p of each patch, from its latent (..., D) under a standard normal and its log-determinant (...)."""
    return latent.square().sum(-1) / 2 + latent.shape[-1] * math.log(2 * math.pi) / 2 - determinant


def mahalanobis(difference: Tensor, precision: Tensor) -> Tensor:
    """Squared distance (B,) of differences (B, D)."""
    return torch.stack([one @ precision @ one for one in difference])


class Flow(nn.Module):
    """Patch features (B, h, w, D) to latents of the same shape and log-determinants (B, h, w)."""

    def __init__(self, config: Config):
        super().__init__()
        self.task_scale, self.task_shift = (nn.Parameter(torch.empty(config.width)) for _ in range(2))
        self.mixer = nn.Conv2d(config.width, config.width, 3, padding=1, groups=config.width, bias=False)
        self.mixer_gate = nn.Parameter(torch.zeros(()))  # of which the sigmoid, 0.5, counts
        nn.init.constant_(self.mixer.weight, 1 / 9)
        subnets = [AdaptedSubnet(config) for _ in range(config.couplings)]
        given = iter(subnets)
        self.couplings = nn.ModuleList(
            AllInOneBlock(
                [(config.width,)],
                subnet_constructor=lambda *_: next(given),
                affine_clamping=1.9,
                global_affine_type="SOFTPLUS",
                permute_soft=False,
            )
            for _ in subnets
        )
        self.task_couplings = nn.ModuleList(
            Coupling(config.width, max(1, config.hidden // 2), swap) for swap in (False, True)
        )
        self.reset_task(later=False)

    @torch.no_grad()
    def reset_task(self, *, later: bool) -> None:
        """Start the adapters of a step: no change to the base but the alignment's scale, 1, or 1.25 if `later`."""
        nn.init.constant_(self.task_scale, 0.0 if later else -math.log(2))
        nn.init.zeros_(self.task_shift)
        for module in self.modules():
            if isinstance(module, AdaptedLinear | Coupling):
                module.reset_task()

    def forward(self, grid: Tensor) -> tuple[Tensor, Tensor]:
        shape = grid.shape[:3]
        x = F.layer_norm(grid + position_code(*shape[1:], grid.shape[-1]).to(grid), grid.shape[-1:])
        x = (0.5 + 1.5 * self.task_scale.sigmoid()) * x + 2 * self.task_shift.tanh()
        mixed = self.mixer(x.movedim(-1, 1)).movedim(1, -1)
        x = (x + self.mixer_gate.sigmoid() * (mixed - x)).flatten(0, 2)
        determinant = x.new_zeros(len(x))
        for coupling in self.couplings:
            coupling.subnet.grid = shape
            (x,), gained = coupling((x,))
            determinant = determinant + gained
        for coupling in self.task_couplings:
            x, gained = coupling(x)
            determinant = determinant + gained
        return x.view(*shape, -1), determinant.view(shape)


class AdaptedSubnet(nn.Module):
    """Scale and shift of a coupling from its passive half (n, D): the scale also sees the places around."""

    def __init__(self, config: Config):
        super().__init__()
        half, rest = config.width - config.width // 2, config.width // 2
        self.grid: Sequence[int] = ()  # (B, h, w), whose product is n
        self.context = nn.Conv2d(half, half, 5, padding=2, groups=half, bias=False)
        self.context_gate = nn.Parameter(torch.zeros(()))  # of which 0.2 times the sigmoid, 0.1, counts
        nn.init.zeros_(self.context.weight)
        first, second = (AdaptedLinear(size, config.hidden, config.rank) for size in (2 * half, half))
        self.scale = nn.Sequential(first, nn.ReLU(), AdaptedLinear(config.hidden, rest, config.rank))
        self.shift = nn.Sequential(second, nn.ReLU(), AdaptedLinear(config.hidden, rest, config.rank))

    def forward(self, passive: Tensor) -> Tensor:
        around = self.context(passive.view(*self.grid, -1).movedim(-1, 1)).movedim(1, -1).reshape(passive.shape)
        seen = torch.cat([passive, 0.2 * self.context_gate.sigmoid() * around], 1)
        return torch.cat([self.scale(seen), self.shift(passive)], 1)


class AdaptedLinear(nn.Linear):
    """A linear layer plus a low-rank change, divided by its rank, and a bias of the step's own."""

    def __init__(self, inputs: int, outputs: int, rank: int):
        super().__init__(inputs, outputs)
        self.task_down = nn.Parameter(torch.empty(rank, inputs))
        self.task_up = nn.Parameter(torch.empty(outputs, rank))
        self.task_bias = nn.Parameter(torch.empty(outputs))

    def reset_task(self) -> None:
        nn.init.xavier_uniform_(self.task_down)
        nn.init.zeros_(self.task_up)
        nn.init.zeros_(self.task_bias)

    def forward(self, x: Tensor) -> Tensor:
        change = F.linear(F.linear(x, self.task_down), self.task_up) / len(self.task_down)
        return super().forward(x) + change + self.task_bias


class Coupling(nn.Module):
    """An affine coupling that starts as the identity; `swap` says which half stays."""

    def __init__(self, width: int, hidden: int, swap: bool):
        super().__init__()
        self.sizes, self.swap = [width - width // 2, width // 2], swap
        passive, active = self.sizes[::-1] if swap else self.sizes
        self.net = nn.Sequential(nn.Linear(passive, hidden), nn.ReLU(), nn.Linear(hidden, 2 * active))

    def reset_task(self) -> None:
        self.net[0].reset_parameters()
        nn.init.zeros_(self.net[2].weight)
        nn.init.zeros_(self.net[2].bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first, second = x.split(self.sizes, 1)
        passive, active = (second, first) if self.swap else (first, second)
        scale, shift = self.net(passive).chunk(2, 1)
        scale = 1.9 * scale.tanh()
        active = active * scale.exp() + shift
        halves = (active, passive) if self.swap else (passive, active)
        return torch.cat(halves, 1), scale.sum(1)


def position_code(h: int, w: int, width: int) -> Tensor:
    """Sines and cosines of row and column at falling frequencies, (h, w, width)."""
    quarter = -(-width // 4)
    frequencies = torch.exp(-math.log(10_000) * torch.arange(quarter) / quarter)
    rows, columns = (torch.arange(size)[:, None] * frequencies for size in (h, w))
    parts = [rows.sin()[:, None].expand(h, w, -1), rows.cos()[:, None].expand(h, w, -1)]
    parts += [columns.sin()[None].expand(h, w, -1), columns.cos()[None].expand(h, w, -1)]
    return torch.cat(parts, 2)[..., :width]
