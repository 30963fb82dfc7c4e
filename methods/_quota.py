"""A memory with an equal quota per class: what replay, SCALE and their siblings share."""

from collections.abc import Iterable

import torch
from torch import Tensor


def as_bytes(image: Tensor) -> Tensor:
    """Floats in 0..1 to the nearest of 256 grey levels: uint8, on the CPU."""
    return image.mul(255).round().byte().cpu()


def by_class(dataset: Iterable) -> dict[int, Tensor]:
    """The images of a step by class, each (n, 3, H, W) uint8, in their order."""
    found: dict[int, list[Tensor]] = {}
    for image, _mask, _label, category in dataset:
        found.setdefault(category, []).append(as_bytes(image))
    return {category: torch.stack(images) for category, images in found.items()}


def joined(parts: dict[int, Tensor]) -> Tensor:
    """The items of all classes (N, ...), class after class."""
    return torch.cat(list(parts.values())) if parts else torch.empty(0)


class Quota:
    """At most `size` items, size // classes of each class, or `per_class` of each; which ones is drawn at random."""

    def __init__(self, size: int, per_class: int = 0):
        self.size, self.per_class = size, per_class
        self.kept: dict[int, Tensor] = {}  # class -> (n, ...)
        self.places: dict[int, Tensor] = {}  # class -> (n,), which of its training images they are, for measuring

    def __len__(self) -> int:
        return sum(map(len, self.kept.values()))

    def items(self) -> Tensor:
        """All items (N, ...), class after class."""
        return joined(self.kept)

    def draw(self, count: int) -> Tensor:
        """Places (count,) in `items()`, with replacement: first a class, then one of its items, each uniformly."""
        chance = torch.cat([torch.full((len(items),), 1 / len(items)) for items in self.kept.values()])
        return torch.multinomial(chance, count, replacement=True)

    def recalled(self, pictures: Tensor) -> dict[int, tuple[Tensor, Tensor]]:
        """Pictures made of `items()`, in that order, as `Plugin.recall` returns them."""
        parts = pictures.split([len(items) for items in self.kept.values()])
        return {category: (part, self.places[category]) for category, part in zip(self.kept, parts, strict=True)}

    def admit(self, new: dict[int, Tensor], *, trim: bool = True) -> None:
        """Keep a random choice of each new class, and cut the old ones to the same quota (unless not to `trim`)."""
        quota = self.per_class or max(1, self.size // (len(self.kept) + len(new)))
        for category, items in new.items():
            chosen = torch.randperm(len(items))[:quota]
            self.kept[category], self.places[category] = items[chosen], chosen.int()
        if trim:
            self.kept = {category: items[:quota] for category, items in self.kept.items()}
            self.places = {category: places[:quota] for category, places in self.places.items()}

    def state_dict(self) -> dict:
        return {"memory": self.kept, "places": self.places}

    def load_state_dict(self, state: dict) -> None:
        self.kept = {category: items.cpu() for category, items in state["memory"].items()}
        self.places = {category: places.cpu() for category, places in state.get("places", {}).items()}
