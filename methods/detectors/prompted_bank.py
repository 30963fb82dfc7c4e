"""UCAD's detector: a bank of a transformer's tokens, seen under a learned prompt, and a key without it.

Liu et al., Unsupervised Continual Anomaly Detection with Contrastively-Learned Prompt, arXiv:2401.01010. The prompt is
a prefix of keys and values in the attention of every block (prefix tuning); it is trained so that tokens of one region
of an image are alike and tokens of different regions are not. Regions are clusters of the unprompted tokens, or the
masks of a Segment Anything model, as in the paper. Without `prompts` a keyed bank remains.
A backbone that is no plain vision transformer gives the features at each place as tokens, and two attention blocks with
fixed random weights follow, so that a prefix has a place to act.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional as F

from bench.api import BadInput, Detector, Prediction, Setup, clip, freeze, smooth
from methods.detectors.patchcore.coreset import coreset
from methods.detectors.token_bank import density_weight, neighbours

TRAITS = ("gradient", "keyed_bank")
BACKBONE = "vit_base_patch16_224.augreg2_in21k_ft_in1k"


@dataclass(frozen=True)
class Config:
    epochs: int = 25
    batch_size: int = 8
    lr: float = 5e-4  # Adam, gradient cut at norm 1
    prompts: bool = True  # learned prefixes; without: keys and banks of plain tokens
    block: int = 5  # of the transformer, from 0, whose tokens are kept
    patches: int = 196  # tokens in the key, and as many in the bank
    temperature: float = 0.5  # of the contrastive loss
    regions: str = "clusters"  # of tokens; or the id or folder of a SAM model for transformers
    clusters: int = 6  # in an image
    neighbors: int = 9  # that weigh the image score
    side: int = 224  # px that images are brought to for the network; 0: the run's size, to whole patches
    sigma: float = 4.0  # px, smoothing of the map

    @classmethod
    def tiny(cls) -> "Config":
        return cls(epochs=4, block=3, side=0, sigma=1.5)


def build(config: Config, setup: Setup) -> Detector:
    return PromptedBank(config, setup)


class PromptedBank(Detector):
    """A prompt, a key and a bank; several such triples where a method routes between them."""

    def __init__(self, config: Config, setup: Setup):
        super().__init__()
        self.config, self.batch_size = config, config.batch_size
        self.epochs = config.epochs if config.prompts else 1
        self.encoder = setup.tokens(1, blocks=(config.block,))
        self.own_blocks = nn.ModuleList() if self.encoder.trunk else _random_blocks(self.encoder.width)
        attention = self._blocks()[0].attn
        shape = (len(self._blocks()), 2, attention.num_heads, 1, attention.head_dim)
        self.prompt = nn.Parameter(torch.rand(shape) * 2 - 1, requires_grad=config.prompts)
        self.side = self.encoder.side_for(config.side or setup.image_size)
        self.register_buffer("key", torch.empty(0, self.encoder.width))
        self.register_buffer("bank", torch.empty(0, self.encoder.width))
        self.segmenter = _sam(config.regions, setup.device) if config.prompts and config.regions != "clusters" else None
        self.segmented: dict[bytes, Tensor] = {}  # regions of this step's images
        self.memories: list[dict[str, Tensor]] = []  # if set, predict with the one whose key is nearest

    def _blocks(self) -> list[nn.Module]:
        blocks = self.encoder.trunk or list(self.own_blocks)
        if not all(isinstance(block, Block) for block in blocks):
            raise BadInput(
                f"prompted_bank puts a prefix into the attention of timm's plain blocks, and backbone "
                f"{self.encoder.spec.name!r} has {type(blocks[0]).__name__}; give a plain vision transformer."
            )
        return blocks

    def embed(self, image: Tensor, prompt: Tensor | None) -> Tensor:
        """Tokens (B, h * w, D) of images (B, 3, H, W) under a prompt (blocks, 2, heads, 1, D / heads), or none."""
        image = self._sized(image)
        if prompt is None and self.encoder.trunk:
            return self.encoder.grid(image)[1].flatten(2).transpose(1, 2)
        tokens = self.encoder.enter(image)
        for i, block in enumerate(self._blocks()):
            tokens = _through(block, tokens, None if prompt is None else prompt[i])
        return tokens[:, self.encoder.num_register_tokens + 1 :]

    def _sized(self, image: Tensor) -> Tensor:
        if image.shape[-1] == self.side:
            return image
        return F.interpolate(image, (self.side, self.side), mode="bilinear", antialias=True)

    def optimizer(self) -> torch.optim.Optimizer | None:
        return clip(torch.optim.Adam([self.prompt], self.config.lr), 1.0) if self.config.prompts else None

    def prepare(self, images: Iterable[Tensor]) -> None:
        """Let go of the regions of the last step's images."""
        self.segmented = {}

    def response(self, image: Tensor) -> list[Tensor]:
        return [self.embed(image, self.prompt)]

    def loss(self, image: Tensor) -> Tensor:
        if not self.config.prompts:
            return image.new_zeros(())
        tokens = F.normalize(self.embed(image, self.prompt), dim=2)
        return contrast(tokens, self.regions(image), self.config.temperature)

    @torch.no_grad()
    def regions(self, image: Tensor) -> Tensor:
        """Which region each token belongs to, (B, h * w)."""
        if self.segmenter is None:
            return torch.stack([clusters(tokens, self.config.clusters) for tokens in self.embed(image, None)])
        return torch.stack([self._segment(one) for one in self._sized(image)])

    def _segment(self, image: Tensor) -> Tensor:
        name = image.cpu().numpy().tobytes()
        if name not in self.segmented:
            from torchvision.transforms.v2.functional import to_pil_image

            masks = self.segmenter(to_pil_image(image.cpu()))["masks"]
            painted = torch.zeros(image.shape[-2:])
            for number, mask in enumerate(sorted(masks, key=lambda mask: -mask.sum()), 1):  # smaller ones on top
                painted[torch.as_tensor(mask)] = number
            places = self.side // self.encoder.patch_size
            self.segmented[name] = F.interpolate(painted[None, None], (places, places), mode="nearest").flatten()
        return self.segmented[name].to(image.device)

    @torch.no_grad()
    def consolidate(self, images: Iterable[Tensor]) -> None:
        plain, seen = [], []
        for image in images:
            plain.append(self.embed(image, None).flatten(0, 1))
            seen.append(self.embed(image, self.prompt).flatten(0, 1) if self.config.prompts else plain[-1])
        self.key, self.bank = (coreset(torch.cat(part), self.config.patches) for part in (plain, seen))

    def take_memory(self) -> dict[str, Tensor]:
        """Hand over key, prompt and bank of the step just learned; of these the detector goes on with the prompt."""
        prompt = self.prompt.detach().clone() if self.config.prompts else self.prompt.new_empty(0)
        memory = {"key": self.key, "prompt": prompt, "bank": self.bank}
        self.key, self.bank = self.key[:0].clone(), self.bank[:0].clone()
        return memory

    def route_to(self, memories: list[dict[str, Tensor]]) -> None:
        """Predict each image with the one of `memories` whose key its unprompted tokens lie nearest to."""
        self.memories = memories

    def predict(self, image: Tensor) -> Prediction:
        memories = self.memories or [{"key": self.key, "prompt": self.prompt, "bank": self.bank}]
        plain = self.embed(image, None)
        far = [neighbours(plain, memory["key"], 1)[0].squeeze(2).sum(1) for memory in memories]
        route = torch.stack(far).argmin(0)  # (B,)
        judged = [self._judge(image[i], plain[i], memories[int(t)]) for i, t in enumerate(route)]
        scores, distances = (torch.stack(part) for part in zip(*judged, strict=True))
        places = self.side // self.encoder.patch_size
        patches = distances.view(-1, 1, places, places)
        anomaly_map = smooth(F.interpolate(patches, image.shape[-2:], mode="bilinear"), self.config.sigma)
        return Prediction(scores, anomaly_map, route if self.memories else None)

    def _judge(self, image: Tensor, plain: Tensor, memory: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Score () of one image, and the distances (h * w,) of its tokens, by one memory."""
        bank = memory["bank"]
        tokens = self.embed(image[None], memory["prompt"])[0] if self.config.prompts else plain
        distances, rows = (part[0, :, 0] for part in neighbours(tokens[None], bank, 1))
        worst = distances.argmax()
        weight = density_weight(tokens[worst], distances[worst], bank, rows[worst], self.config.neighbors)
        return weight * distances[worst], distances


def contrast(tokens: Tensor, regions: Tensor, temperature: float) -> Tensor:
    """The paper's equation 4 on tokens (B, n, D) of length one: like tokens in a region (B, n), unlike ones across."""
    similarity = tokens @ tokens.transpose(1, 2) / temperature
    same = regions[:, :, None] == regions[:, None]
    return torch.where(same, -similarity, similarity.exp()).mean()


def clusters(tokens: Tensor, count: int, rounds: int = 10) -> Tensor:
    """k-means on tokens (n, D), begun with tokens far from each other; the cluster of each (n,)."""
    centres, nearest = tokens[:1], torch.cdist(tokens, tokens[:1])[:, 0]
    while len(centres) < min(count, len(tokens)):
        farthest = tokens[nearest.argmax()[None]]  # a GPU is not waited for
        centres = torch.cat([centres, farthest])
        nearest = torch.minimum(nearest, torch.cdist(tokens, farthest)[:, 0])
    for _ in range(rounds):
        member = torch.cdist(tokens, centres).argmin(1)
        of = F.one_hot(member, len(centres)).to(tokens)
        filled = of.sum(0)[:, None]
        centres = torch.where(filled > 0, of.T @ tokens / filled.clamp(min=1), centres)
    return member


def _through(block: Block, tokens: Tensor, prefix: Tensor | None) -> Tensor:
    """A block whose attention sees a prefix of keys and values (2, heads, 1, D / heads) before the tokens' own."""
    attention, normed = block.attn, block.norm1(tokens)
    batch, count, _ = normed.shape
    queries, keys, values = attention.qkv(normed).view(batch, count, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
    queries, keys = attention.q_norm(queries), attention.k_norm(keys)
    if prefix is not None:
        extra = prefix[:, None].expand(-1, batch, -1, -1, -1)
        keys, values = torch.cat([extra[0], keys], 2), torch.cat([extra[1], values], 2)
    mixed = F.scaled_dot_product_attention(queries, keys, values).transpose(1, 2).reshape(batch, count, -1)
    tokens = tokens + block.ls1(attention.proj(mixed))
    return tokens + block.ls2(block.mlp(block.norm2(tokens)))


def _random_blocks(width: int) -> nn.ModuleList:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # the same for all runs, as pretrained ones are
        heads = next(heads for heads in (4, 2, 1) if width % heads == 0)
        return freeze(nn.ModuleList(Block(width, heads, qkv_bias=True) for _ in range(2)))


def _sam(source: str, device: str):
    from transformers import pipeline

    try:
        return pipeline("mask-generation", model=source, device=device)
    except (OSError, ValueError) as error:
        raise BadInput(
            f"no SAM model {source!r} is at hand ({type(error).__name__}): set prompted_bank.regions to an id that the "
            "hub knows, e.g. facebook/sam-vit-base, to a folder saved with `save_pretrained`, or to clusters."
        ) from error
