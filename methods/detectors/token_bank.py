"""A memory bank of a transformer's tokens: distance to the nearest stored one, PatchCore on a vision transformer.

As CADIC runs it (Yang et al., arXiv:2511.08634): one block, L2, PatchCore's re-weighting. Other systems are options:
`distance=cosine`, `norm`, `head=top_patches` are AnomalyDINO's (see `anomaly_dino`); `energy=16`, `head=top_pixels`
are GCR's (Chae et al., arXiv:2601.01856); `projection=5`, `top=0.005` are the soft projection of ProCon
(arXiv:2607.04894). A backbone that is no plain vision transformer gives the features at each place as tokens.
Each step's bank replaces the last one: under fine-tuning, earlier classes are forgotten.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.api import BadInput, Detector, Prediction, Setup, smooth
from methods.detectors.patchcore import mean_distance
from methods.detectors.patchcore.coreset import coreset

TRAITS = ("memory_bank",)
BACKBONE = "vit_base_patch8_224.augreg2_in21k_ft_in1k"
TUNED_ON = {"": "block 9 is the best image AUROC on the test set, CADIC's Table VI"}
HEADS = ("max", "reweighted", "top_patches", "top_pixels")


@dataclass(frozen=True)
class Config:
    blocks: tuple[int, ...] = (9,)  # of the transformer, from 0, or below 0 from the end; side by side in a token
    norm: bool = False  # tokens after the final norm
    distance: str = "l2"  # or cosine
    patches: int = 10_000  # tokens in the bank
    candidates: int = 0  # tokens drawn at random before the coreset is chosen; 0: all
    head: str = "reweighted"  # of the image score: max, reweighted (PatchCore), top_patches or top_pixels (a mean)
    neighbors: int = 9  # that weigh the image score, of head `reweighted`
    top: float = 0.01  # share of the patches or pixels that heads `top_...` average
    energy: int = 0  # nearest tokens in GCR's log-sum-exp of squared distances; 0: the distance itself
    projection: int = 0  # nearest tokens that ProCon blends before it takes the distance; 0: the nearest one
    side: int = 224  # px that images are brought to for the network; 0: the run's size, to whole patches
    batch_size: int = 32
    sigma: float = 4.0  # px, smoothing of the map; 0: none

    @classmethod
    def tiny(cls) -> "Config":
        return cls(blocks=(3,), patches=1_000, candidates=5_000, side=0, sigma=1.5)


def build(config: Config, setup: Setup) -> Detector:
    return TokenBank(config, setup)


class TokenBank(Detector):
    """A bank of at most `patches` tokens; several banks where a method routes between them."""

    def __init__(self, config: Config, setup: Setup):
        super().__init__()
        if config.head not in HEADS or config.distance not in ("l2", "cosine"):
            raise BadInput(
                f"token_bank has no head {config.head!r} on distance {config.distance!r}; "
                f"heads are {', '.join(HEADS)}, distances l2 and cosine."
            )
        self.config, self.batch_size = config, config.batch_size
        self.encoder = setup.tokens(len(config.blocks), blocks=config.blocks, norm=config.norm)
        self.side = self.encoder.side_for(config.side or setup.image_size)
        self.register_buffer("bank", torch.empty(0, self.encoder.dimension))
        self.stored: list[Tensor] = []  # tokens of this step, parts (n, D)
        self.banks: list[Tensor] = []  # if set, predict with the nearest of these
        self.route_rule, self.routes, self.choose = mean_distance, True, coreset

    def embed(self, image: Tensor) -> Tensor:
        """Tokens (B, D, h, w) of images (B, 3, H, W), of length one where the distance is cosine."""
        if image.shape[-1] != self.side:
            image = F.interpolate(image, (self.side, self.side), mode="bicubic", antialias=True).clamp(0, 1)
        found = self.encoder.grid(image)[1]
        return F.normalize(found, dim=1) if self.config.distance == "cosine" else found

    @torch.no_grad()
    def loss(self, image: Tensor) -> Tensor:
        self.stored.append(self.embed(image).movedim(1, -1).flatten(0, 2))
        return image.new_zeros(())

    @torch.no_grad()
    def consolidate(self, images) -> None:
        points, self.stored = torch.cat(self.stored), []
        if self.config.candidates and len(points) > self.config.candidates:
            points = points[torch.randperm(len(points), device=points.device)[: self.config.candidates]]
        self.bank = self.thin(points, self.config.patches)

    def thin(self, bank: Tensor, patches: int) -> Tensor:
        """Return at most `patches` rows of `bank` (n, D), by greedy k-centre unless a method set `choose`."""
        return self.choose(bank, patches)

    def take_bank(self) -> Tensor:
        """Hand over the bank (n, D) of the step just learned; the detector keeps none."""
        bank, self.bank = self.bank, self.bank.new_empty(0, self.bank.shape[1])
        return bank

    def route_to(self, banks: list[Tensor], rule: Callable[[Tensor], Tensor] = mean_distance) -> None:
        """Predict each image with the one of `banks` for which `rule` of its patches' distances is lowest."""
        self.banks, self.route_rule, self.routes = banks, rule, True

    def judge_by(self, bank: Tensor) -> None:
        """Predict every image with `bank`, which a method keeps; nothing is routed."""
        self.banks, self.routes = [bank], False

    def predict(self, image: Tensor) -> Prediction:
        grid = self.embed(image)
        tokens = grid.flatten(2).transpose(1, 2)  # (B, places, D)
        banks = self.banks or [self.bank]
        nearest = torch.stack([neighbours(tokens, bank, 1)[0].squeeze(-1) for bank in banks])  # (banks, B, places)
        route = self.route_rule(nearest).argmin(0)  # (B,)
        judged = [self._judge(tokens[i : i + 1], banks[int(t)]) for i, t in enumerate(route)]
        patches = torch.cat([part for part, _ in judged]).view(len(image), 1, *grid.shape[-2:])
        anomaly_map = F.interpolate(patches, image.shape[-2:], mode="bilinear")
        anomaly_map = smooth(anomaly_map, self.config.sigma) if self.config.sigma else anomaly_map
        head = self.config.head
        if head.startswith("top"):
            score = _mean_of_largest((patches if head == "top_patches" else anomaly_map).flatten(1), self.config.top)
        else:
            score = patches.flatten(1).amax(1)
            score = score * torch.stack([weight for _, weight in judged]) if head == "reweighted" else score
        return Prediction(score, anomaly_map, route if self.banks and self.routes else None)

    def _judge(self, tokens: Tensor, bank: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (1, places) of the tokens of one image by a bank, and the weight () of its largest."""
        config = self.config
        count = max(1, config.energy, config.projection)
        distances, places = neighbours(tokens, bank, min(count, len(bank)))  # (1, places, k)
        worst, weight = distances[0, :, 0].argmax(), torch.ones((), device=bank.device)
        if config.head == "reweighted" and len(bank) > 1:
            found = distances[0, worst, 0], bank, places[0, worst, 0]
            weight = density_weight(tokens[0, worst], *found, config.neighbors)
        squares = distances.square()
        if config.projection:  # tau: the median over this image's tokens
            blend = F.softmax(-squares / squares.median().clamp(min=1e-12), -1)
            return (tokens - (blend[..., None] * bank[places]).sum(2)).norm(dim=-1), weight
        if config.energy:  # equation of GCR's mixture with precision 1
            return math.log(len(bank)) - torch.logsumexp(-squares / 2, -1), weight
        if config.distance == "cosine":  # of tokens of length one
            return squares[..., 0] / 2, weight
        return distances[..., 0], weight


def density_weight(token: Tensor, distance: Tensor, bank: Tensor, place: Tensor, count: int) -> Tensor:
    """PatchCore's equation 7: how much of a `distance` () is not the sparsity of the bank around the row at `place`."""
    around = neighbours(bank[place][None, None], bank, min(count, len(bank)))[1].flatten()
    return 1 - torch.exp(distance - torch.logsumexp((bank[around] - token).norm(dim=1), 0))


def neighbours(tokens: Tensor, bank: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Distances and rows (B, places, count) of the nearest of `bank` (n, D) to each of `tokens` (B, places, D)."""
    # An image at a time, so that neither memory nor the last bit depends on the batch.
    parts = [torch.cdist(one, bank).topk(count, largest=False) for one in tokens]
    return torch.stack([part.values for part in parts]), torch.stack([part.indices for part in parts])


def _mean_of_largest(values: Tensor, share: float) -> Tensor:
    """Mean (B,) of the largest `share` of values (B, n), at least one."""
    return values.topk(max(1, int(share * values.shape[1])), 1).values.mean(1)
