"""The pictures that the prior learns from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pretraining.prior.model import SIZE
from pretraining.products import Product, products

MATERIALS, SIDE = 96, 112


@dataclass(frozen=True)
class Corpus:
    """Pictures (n, 3, H, W) and masks as pictures, uint8; `views` of each product, one product after another."""

    images: Tensor
    masks: Tensor
    views: int

    @classmethod
    def of(cls, seed: int, count: int, views: int) -> Corpus:
        """`views` pictures of each of `count` products."""
        rng = np.random.default_rng(seed)
        return cls.draw(rng, products(rng, count, MATERIALS, SIDE), views)

    @classmethod
    def draw(cls, rng: np.random.Generator, chosen: list[Product], views: int) -> Corpus:
        drawn = [product.draw(rng, SIZE) for product in chosen for _ in range(views)]
        images = torch.from_numpy(np.stack([image for image, _ in drawn])).movedim(-1, 1).contiguous()
        masks = torch.from_numpy(np.stack([mask for _, mask in drawn]))[:, None].byte().mul(255).expand(-1, 3, -1, -1)
        return cls(images, masks, views)


def scaled(pictures: Tensor) -> Tensor:
    """Bytes as floats in -1..1."""
    return pictures.float() / 127.5 - 1
