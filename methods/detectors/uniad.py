"""UniAD: a transformer with a learned query per place restores a frozen network's features, shaken while it trains.

You et al., A Unified Model for Multi-class Anomaly Detection, arXiv:2206.03687; here as IUF uses it: features of four
strides side by side on the coarsest grid, no mask in the attention. The map is the length of the difference.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.api import Detector, Prediction, Setup, clip, trainable

TRAITS = ("gradient", "feature_transformer")
BACKBONE = "efficientnet_b4"


@dataclass(frozen=True)
class Config:
    epochs: int = 1000
    batch_size: int = 16
    lr: float = 1e-4  # AdamW with weight decay 1e-4; a tenth of it after four fifths of the batches
    strides: tuple[int, ...] = (2, 4, 8, 16)  # brought to the grid of the last
    width: int = 256  # of a token
    layers: int = 4  # of the encoder, and as many of the decoder
    heads: int = 8  # of the attention
    hidden: int = 1024  # units between two layers of a block
    dropout: float = 0.1  # of attention and blocks
    jitter: float = 20.0  # length of the noise on a token relative to the token's, times the square root of its size
    pool: int = 16  # px, side of the squares of the map whose means the image score is the largest of

    @classmethod
    def tiny(cls) -> "Config":
        return cls(
            epochs=12,
            batch_size=8,
            lr=1e-3,
            strides=(4, 8),
            width=64,
            layers=2,
            heads=4,
            hidden=128,
            jitter=5.0,
            pool=4,
        )


def build(config: Config, setup: Setup) -> Detector:
    return UniAD(config, setup)


class UniAD(Detector):
    """Frozen features, an encoder and a decoder over their places; a method may weigh the encoder's queries."""

    def __init__(self, config: Config, setup: Setup):
        super().__init__()
        self.config, self.epochs, self.batch_size = config, config.epochs, config.batch_size
        self.features = setup.features(*config.strides)
        grid = math.ceil(setup.image_size / config.strides[-1])
        channels = sum(self.features.channels)
        self.enter, self.leave = nn.Linear(channels, config.width), nn.Linear(config.width, channels)
        self.position = nn.Parameter(torch.randn(grid**2, config.width) * 0.02)
        parts = config.width, config.heads, config.hidden, config.dropout
        self.encoder = nn.ModuleList(EncoderLayer(*parts) for _ in range(config.layers))
        self.decoder = nn.ModuleList(DecoderLayer(grid**2, *parts) for _ in range(config.layers))
        # Of images (B, 3, H, W), weights (B, places, width) for the queries of each encoder layer.
        self.query_weights: Callable[[Tensor], list[Tensor]] | None = None

    def optimizer(self) -> torch.optim.Optimizer:
        return clip(torch.optim.AdamW(trainable(self), self.config.lr, weight_decay=1e-4), 0.1)

    def scheduler(self, optimizer, iterations: int) -> torch.optim.lr_scheduler.LRScheduler:
        return torch.optim.lr_scheduler.MultiStepLR(optimizer, [max(1, iterations * 4 // 5)])

    @torch.no_grad()
    def embed(self, image: Tensor) -> Tensor:
        """Features (B, h, w, C) on the grid of the last stride."""
        maps = list(self.features(image).values())
        return torch.cat([F.interpolate(m, maps[-1].shape[-2:], mode="bilinear") for m in maps], 1).movedim(1, -1)

    def restore(self, image: Tensor, features: Tensor) -> Tensor:
        """Features as the transformer makes them again, in the same shape (B, h, w, C)."""
        tokens = features.flatten(1, 2)
        if self.training:
            noise = torch.randn_like(tokens) * tokens.norm(dim=2, keepdim=True) / tokens.shape[2] * self.config.jitter
            tokens = tokens + noise
        memory = self.enter(tokens)
        weights = self.query_weights(image) if self.query_weights else [None] * len(self.encoder)
        for layer, weight in zip(self.encoder, weights, strict=True):
            memory = layer(memory, self.position, weight)
        output = memory
        for layer in self.decoder:
            output = layer(output, memory, self.position)
        return self.leave(output).view_as(features)

    def response(self, image: Tensor) -> list[Tensor]:
        return [self.restore(image, self.embed(image))]

    def loss(self, image: Tensor) -> Tensor:
        features = self.embed(image)
        return F.mse_loss(self.restore(image, features), features)

    def predict(self, image: Tensor) -> Prediction:
        features = self.embed(image)
        patches = (self.restore(image, features) - features).norm(dim=3)[:, None]
        anomaly_map = F.interpolate(patches, image.shape[-2:], mode="bilinear")
        score = F.avg_pool2d(anomaly_map, min(self.config.pool, image.shape[-1]), stride=1).flatten(1).amax(1)
        return Prediction(score, anomaly_map)


class FeedForward(nn.Module):
    """Two linear layers around a ReLU, added to what came in and normalised."""

    def __init__(self, width: int, hidden: int, dropout: float):
        super().__init__()
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.dropout, self.norm = nn.Dropout(dropout), nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        change = self.linear2(self.dropout(self.linear1(tokens).relu()))
        return self.norm(tokens + self.dropout(change))


class Attention(nn.Module):
    """Attention with positions, added to the queries' tokens and normalised."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.dropout, self.norm = nn.Dropout(dropout), nn.LayerNorm(width)

    def forward(self, tokens: Tensor, seen: Tensor, position: Tensor, weight: Tensor | None = None) -> Tensor:
        query = tokens + position
        query = query if weight is None else query * weight
        found = self.attention(query, seen + position, seen, need_weights=False)[0]
        return self.norm(tokens + self.dropout(found))


class EncoderLayer(nn.Module):
    """Tokens look at each other."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float):
        super().__init__()
        self.attention, self.forward_part = Attention(width, heads, dropout), FeedForward(width, hidden, dropout)

    def forward(self, tokens: Tensor, position: Tensor, weight: Tensor | None) -> Tensor:
        return self.forward_part(self.attention(tokens, tokens, position, weight))


class DecoderLayer(nn.Module):
    """A query of each place, learned, looks at the encoder's tokens and then at the layer before."""

    def __init__(self, places: int, width: int, heads: int, hidden: int, dropout: float):
        super().__init__()
        self.query = nn.Parameter(torch.randn(places, width))
        self.memory_attention = Attention(width, heads, dropout)
        self.output_attention = copy.deepcopy(self.memory_attention)
        self.output_attention.attention._reset_parameters()
        self.forward_part = FeedForward(width, hidden, dropout)

    def forward(self, output: Tensor, memory: Tensor, position: Tensor) -> Tensor:
        query = self.query.expand(len(memory), -1, -1)
        query = self.memory_attention(query, memory, position)
        return self.forward_part(self.output_attention(query, output, position))
