"""A memory that is a uniform random choice of all images so far, without knowing classes or steps."""

from collections.abc import Iterator

import torch
from torch import Tensor


class Reservoir:
    """Each image draws a lot when it is offered; the `size` lowest lots stay (reservoir sampling, Vitter 1985).

    Its draws come from generators of its own, started anew at each step: they shift nobody else's.
    """

    def __init__(self, size: int, seed: int):
        self.size, self.seed = size, seed
        self.images = torch.empty(0, dtype=torch.uint8)  # (n, 3, H, W)
        self.lots = torch.empty(0)  # (n,)

    def __len__(self) -> int:
        return len(self.images)

    def offer(self, strategy) -> tuple[Tensor, Tensor]:
        """Offer the images of the step; return the places that stayed, and the images (m, 3, H, W) that joined.

        Afterwards the memory is those that stayed, in their order, then those that joined.
        """
        dataset = strategy.experience.dataset
        lots = torch.rand(len(dataset), generator=self._generator(strategy))
        kept = torch.cat([self.lots, lots]).argsort()[: self.size].sort().values
        stayed, chosen = kept[kept < len(self.lots)], kept[kept >= len(self.lots)] - len(self.lots)
        joined = [(dataset[i][0] * 255).round().byte()[None] for i in chosen.tolist()]
        self.images = torch.cat([self.images[stayed], *joined])
        self.lots = torch.cat([self.lots[stayed], lots[chosen]])
        return stayed, self.images[len(stayed) :]

    def batches(self, strategy) -> Iterator[Tensor]:
        """Yield the places (b,) of random batches of the strategy's size, for as long as one asks."""
        generator = self._generator(strategy)
        while True:
            yield torch.randperm(len(self), generator=generator)[: strategy.train_mb_size]

    def read(self, places: Tensor, device) -> Tensor:
        """Return the images at `places` as the detector takes them: (b, 3, H, W) floats in 0..1."""
        return self.images[places].to(device).float().div(255)

    def _generator(self, strategy) -> torch.Generator:
        return torch.Generator().manual_seed(1000 * self.seed + strategy.experience.current_experience)

    def state_dict(self) -> dict:
        return {"images": self.images, "lots": self.lots, "seed": self.seed}

    def load_state_dict(self, state: dict) -> None:
        self.images, self.lots, self.seed = state["images"].cpu(), state["lots"].cpu(), state["seed"]
