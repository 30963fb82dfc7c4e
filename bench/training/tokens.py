"""Frozen timm networks as sequences of tokens: a transformer's own, or the places of a convolutional network's maps."""

from collections.abc import Sequence

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.schema.request import BackboneSpec
from bench.training.backbone import Backbone, BackboneUnfit, Features, Maps, Recall, create


class TokenGrid:
    """What token sequences share, whatever network they come from: the class token, and the places on their grid."""

    @property
    def dimension(self) -> int:
        """Channels of `grid`: those of all blocks together."""
        return self.width * len(self.blocks)

    @property
    def trunk(self) -> list[nn.Module]:
        """The transformer's blocks up to the last chosen one, for who sends tokens through them on their own."""
        return []

    def side_for(self, wanted: int) -> int:
        """The side in pixels nearest to `wanted` that whole patches fill."""
        return max(1, round(wanted / self.patch_size)) * self.patch_size

    def grid(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return class tokens (B, D) and patch tokens (B, D, h, w) of images (B, 3, H, W), blocks side by side.

        Where the network has no class token, the mean of all places stands for it.
        """
        found, prefix = torch.cat(list(self(image).values()), 2), self.num_register_tokens + 1
        patches = found[:, prefix:]
        token = found[:, 0] if prefix else patches.mean(1)
        h, w = (side // self.patch_size for side in image.shape[-2:])
        return token, patches.transpose(1, 2).reshape(len(image), -1, h, w)


class Tokens(TokenGrid, Backbone):
    """Maps images (B, 3, H, W) in 0..1 to what blocks of a vision transformer give out, frozen.

    `forward` returns {"blocks.<i>": (B, prefix + h * w, width)} for i in `blocks`: class and register tokens first.
    With the final `norm` a name is "blocks.<i>.norm". H and W must be multiples of `patch_size`. The names are those of
    anomalib's extractor.

    Raises:
        BackboneUnfit: for a block that the transformer does not have.
    """

    def __init__(
        self,
        spec: BackboneSpec,
        count: int,
        recall: Recall | None = None,
        *,
        blocks: Sequence[int] | None = None,
        norm: bool = False,
    ):
        super().__init__(spec, create(spec, num_classes=0, dynamic_img_size=True), recall)
        self.blocks = blocks_of(spec, count, blocks)
        self.norm = norm
        self.layers = [f"blocks.{i}.norm" if norm else f"blocks.{i}" for i in self.blocks]
        self.recipe = {"count": count, "blocks": list(self.blocks), "norm": norm}
        self.patch_size = self.net.patch_embed.patch_size[0]
        self.num_register_tokens = self.net.num_prefix_tokens - 1
        self.width = self.net.num_features

    @property
    def trunk(self) -> list[nn.Module]:
        return list(self.net.blocks[: self.blocks[-1] + 1])

    @torch.no_grad()
    def enter(self, image: Tensor) -> Tensor:
        """What enters the first block, (B, prefix + h * w, width)."""
        embedded = self.net.patch_embed((image - self.mean) / self.std)
        return self.net.norm_pre(self.net._pos_embed(embedded))

    def compute(self, image: Tensor) -> Maps:
        normalised = (image - self.mean) / self.std
        found = self.net.forward_intermediates(
            normalised,
            self.blocks,
            return_prefix_tokens=True,
            norm=self.norm,
            output_fmt="NLC",
            intermediates_only=True,
        )
        return {
            layer: torch.cat([prefix, patches], 1) for layer, (patches, prefix) in zip(self.layers, found, strict=True)
        }


class MapTokens(TokenGrid, Features):
    """Stands in for `Tokens` with a convolutional backbone: one layer of h * w tokens, none of them a class token.

    A token holds the features of all strides at its place, on the grid of the middle stride, each stride normalised.
    """

    STRIDES = (4, 8, 16)
    num_register_tokens = -1  # with the class token's place, which anomalib adds, no prefix at all

    def __init__(self, spec: BackboneSpec, recall: Recall | None = None):
        super().__init__(spec, self.STRIDES, recall)
        self.blocks, self.patch_size, self.width = [0], self.STRIDES[1], sum(self.channels)

    def enter(self, image: Tensor) -> Tensor:
        """The tokens themselves: no block comes after."""
        return self(image)["blocks.0"]

    @torch.no_grad()
    def forward(self, image: Tensor) -> dict[str, Tensor]:
        maps = list(super().forward(image).values())
        grid = tuple(side // self.patch_size for side in image.shape[-2:])
        parts = [F.interpolate(m, grid, mode="area" if m.shape[-1] > grid[1] else "bilinear") for m in maps]
        tokens = [part.flatten(2).transpose(1, 2) for part in parts]
        return {"blocks.0": torch.cat([F.layer_norm(token, token.shape[2:]) for token in tokens], 2)}


def tokens(
    spec: BackboneSpec,
    count: int,
    recall: Recall | None = None,
    *,
    blocks: Sequence[int] | None = None,
    norm: bool = False,
) -> Tokens | MapTokens:
    """Return `count` layers of tokens from a transformer, or those of `blocks`; one from any other backbone."""
    return Tokens(spec, count, recall, blocks=blocks, norm=norm) if is_transformer(spec) else MapTokens(spec, recall)


def from_recipe(spec: BackboneSpec, recipe: dict) -> Features | Tokens:
    """The network that has this `recipe`."""
    return Features(spec, recipe["strides"]) if "strides" in recipe else Tokens(spec, **recipe)


def is_transformer(spec: BackboneSpec) -> bool:
    """Tell whether a timm architecture is a plain vision transformer, whose blocks all have one grid."""
    if not timm.is_model(spec.name.partition(".")[0]):
        return False
    with torch.device("meta"):
        return hasattr(timm.create_model(spec.name.partition(".")[0]), "num_prefix_tokens")


def check_token_options(spec: BackboneSpec) -> None:
    """Build a backbone once.

    Raises:
        BadInput: for a name, arguments or weights that do not exist or do not fit.
    """
    if is_transformer(spec):
        Tokens(spec, 1)
    else:
        Features(spec, (8, 16))


def blocks_of(spec: BackboneSpec, count: int, chosen: Sequence[int] | None = None) -> list[int]:
    """Blocks in ascending order, as timm gives them out: those `chosen`, or else `count` in the middle.

    Raises:
        BackboneUnfit: for a block that the transformer does not have.
    """
    with torch.device("meta"):
        depth = len(timm.create_model(spec.name.partition(".")[0], **spec.arguments).blocks)
    if not chosen:  # spread over the middle two thirds: 2 to 9 of 12, every second from 4 to 18 of 24
        span = max(1, depth * 2 // 3)
        count = min(count, span)
        return [depth // 6 + i * (span // count) for i in range(count)]
    for i in chosen:
        if not -depth <= i < depth:
            raise BackboneUnfit(f"backbone {spec.name!r} has {depth} blocks, 0 to {depth - 1}, so no block {i}.")
    return sorted({i % depth for i in chosen})
