"""DINOSaur's detector: a bank for every place on the grid of tokens, searched in a window around the place.

Weatherly and Lin, Rethinking Continual Anomaly Detection, arXiv:2605.24251: tokens after the final norm; at each place
greedy k-centre keeps a fifth of the step's images; the mean class token stands for the step. No smoothing.
A backbone that is no plain vision transformer gives the features at each place as tokens, their mean as class token.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.api import Detector, Prediction, Setup

TRAITS = ("position_bank",)
BACKBONE = "vit_small_patch16_dinov3.lvd1689m"
TUNED_ON = {"": "share and window by image AUROC over the test sets of all five protocols, the authors' ablation"}


@dataclass(frozen=True)
class Config:
    blocks: tuple[int, ...] = (-1,)  # of the transformer, from 0, or below 0 from the end
    norm: bool = True  # tokens after the final norm
    share: float = 0.2  # of a step's images that each place keeps
    least: int = 20  # tokens that each place keeps at any rate, if there are as many images
    window: int = 3  # places that a token may be from where its like was stored: 7 x 7 of them
    side: int = 224  # px that images are brought to for the network; 0: the run's size, to whole patches
    batch_size: int = 32

    @classmethod
    def tiny(cls) -> "Config":
        return cls(side=0)


def build(config: Config, setup: Setup) -> Detector:
    return PositionBank(config, setup)


class PositionBank(Detector):
    """A mean class token (D,) and a bank (h, w, M, D); several pairs where a method routes between them."""

    def __init__(self, config: Config, setup: Setup):
        super().__init__()
        self.config, self.batch_size = config, config.batch_size
        self.encoder = setup.tokens(len(config.blocks), blocks=config.blocks, norm=config.norm)
        self.side = self.encoder.side_for(config.side or setup.image_size)
        places = self.side // self.encoder.patch_size
        self.register_buffer("centre", torch.zeros(self.encoder.dimension))
        self.register_buffer("bank", torch.zeros(places, places, 1, self.encoder.dimension))
        self.stored: list[tuple[Tensor, Tensor]] = []  # class tokens (n, D) and tokens (n, D, h, w) of this step
        self.memories: list[dict[str, Tensor]] = []  # if set, predict with the nearest of these

    def embed(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Class tokens (B, D) and tokens (B, D, h, w) of images (B, 3, H, W)."""
        if image.shape[-1] != self.side:
            image = F.interpolate(image, (self.side, self.side), mode="bilinear", antialias=True)
        return self.encoder.grid(image)

    @torch.no_grad()
    def loss(self, image: Tensor) -> Tensor:
        self.stored.append(self.embed(image))
        return image.new_zeros(())

    @torch.no_grad()
    def consolidate(self, images) -> None:
        tokens, grid = (torch.cat(part) for part in zip(*self.stored, strict=True))
        self.stored = []
        count = min(len(grid), max(self.config.least, int(self.config.share * len(grid))))
        at_places = grid.permute(2, 3, 0, 1)  # (h, w, n, D)
        self.centre = tokens.mean(0)
        self.bank = centres_per_place(at_places.flatten(0, 1), count).view(*at_places.shape[:2], count, -1)

    def take_memory(self) -> dict[str, Tensor]:
        """Hand over the mean class token and the bank of the step just learned; the detector keeps none."""
        memory = {"centre": self.centre, "bank": self.bank}
        self.centre, self.bank = torch.zeros_like(self.centre), torch.zeros_like(self.bank[:, :, :1])
        return memory

    def route_to(self, memories: list[dict[str, Tensor]]) -> None:
        """Predict each image with the one of `memories` whose mean class token is nearest to the image's."""
        self.memories = memories

    def predict(self, image: Tensor) -> Prediction:
        tokens, grid = self.embed(image)
        memories = self.memories or [{"centre": self.centre, "bank": self.bank}]
        route = torch.cdist(tokens[:, None], torch.stack([m["centre"] for m in memories]))[:, 0].argmin(1)  # (B,)
        places = grid.permute(0, 2, 3, 1)  # (B, h, w, D)
        found = [
            nearest_in_window(z, memories[int(t)]["bank"], self.config.window)
            for z, t in zip(places, route, strict=True)
        ]
        patches = torch.stack(found)
        anomaly_map = F.interpolate(patches[:, None], image.shape[-2:], mode="bilinear")
        return Prediction(patches.flatten(1).amax(1), anomaly_map, route if self.memories else None)


def centres_per_place(points: Tensor, count: int) -> Tensor:
    """Greedy k-centre from a random start, for each place on its own: `count` of (places, n, D) each."""
    each = torch.arange(len(points), device=points.device)
    index = torch.randint(points.shape[1], (len(points),), device=points.device)
    nearest = torch.full(points.shape[:2], torch.inf, device=points.device)  # to the nearest centre
    chosen = []
    for _ in range(count):
        chosen.append(points[each, index])
        nearest = torch.minimum(nearest, (points - chosen[-1][:, None]).square().sum(2))
        nearest[each, index] = -torch.inf  # equal tokens must not choose one twice
        index = nearest.argmax(1)
    return torch.stack(chosen, 1)


def nearest_in_window(tokens: Tensor, bank: Tensor, window: int) -> Tensor:
    """Distance (h, w) of `tokens` (h, w, D) to the nearest of `bank` (h, w, M, D) at most `window` places off."""
    h, w = tokens.shape[:2]
    nearest = torch.full((h, w), torch.inf, device=tokens.device)
    for down in range(max(-window, 1 - h), min(window, h - 1) + 1):
        for right in range(max(-window, 1 - w), min(window, w - 1) + 1):
            here = (slice(max(0, -down), h - max(0, down)), slice(max(0, -right), w - max(0, right)))
            there = (slice(max(0, down), h + min(0, down)), slice(max(0, right), w + min(0, right)))
            distance = (bank[there] - tokens[here][:, :, None]).square().sum(3).amin(2)
            nearest[here] = torch.minimum(nearest[here], distance)
    return nearest.sqrt()
