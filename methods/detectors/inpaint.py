"""Inpainting: a pix2pix fills masked cells; what it fills in otherwise than it was is anomalous.

SCALE's detector (Dalle Pezze et al., arXiv:2212.11192), after RIAD (Zavrtanik et al., Pattern Recognition 112, 2021):
the cells of an image are dealt out to three masked copies, each filled by the same network.

`--set inpaint.as_released=true` (or that of SCALE) does as the released code:
- one step of the optimizer for each masked copy of each image (`step_per_copy`, `batch_size=1`), where here the copies
  of a batch of images make one: three times as many, or more, for as many epochs;
- the map is smoothed along its rows alone (`smoothing=rows`): a one-dimensional filter met a map;
- each map is divided by its number of cells (`by_cells`): the largest cells decide;
- targets normalised as for ImageNet (`imagenet_range`), whose range the Tanh cannot reach;
- dropout and each image's own statistics at test (`train_mode_at_test`): nobody calls `eval()`.
Not taken over: scores and maps brought to 0..1 over the whole test set of a class, which knows the class.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2.functional import gaussian_blur

from bench.api import BadInput, Detector, Prediction, Setup, later, smooth
from methods._pix2pix import Pix2Pix, side_for
from methods.detectors._similarity import dissimilarity, scored

TRAITS = ("gradient", "bfloat16")
AS_RELEASED = {
    "step_per_copy": True, "batch_size": 1, "smoothing": "rows", "by_cells": True, "imagenet_range": True,
    "train_mode_at_test": True,
}  # fmt: skip
COPIES = 3  # of an image, in which together each cell is masked once
SMOOTHING = ("2d", "rows")


@dataclass(frozen=True)
class Config:
    epochs: int = 5
    batch_size: int = 1  # images; their masked copies form one batch
    lr: float = 2e-4  # Adam of generator and discriminator, betas (0.5, 0.999)
    l1: float = 100.0  # weight of the L1 term beside the GAN's
    width: int = 64  # channels of generator and discriminator after the first layer
    cells: tuple[int, ...] = (2, 4, 8, 16)  # px, sides of the cells: one drawn for each image, all in turn at test
    sigma: float = 7.0  # px, smoothing of the map
    smoothing: str = "2d"  # rows, as released: along the rows alone
    by_cells: bool = False  # as released: each map over its number of cells, so that the largest cells decide
    imagenet_range: bool = False  # as released: ImageNet-normalised targets, whose range the Tanh cannot reach
    train_mode_at_test: bool = False  # as released: dropout and each image's own statistics at test
    step_per_copy: bool = later(False)  # as released: an epoch is three passes, each with one copy of every image

    @classmethod
    def tiny(cls) -> "Config":
        return cls(epochs=2, batch_size=2, lr=2e-3, width=8, cells=(4, 8), sigma=1.5)

    def __post_init__(self):
        if self.smoothing not in SMOOTHING:
            raise BadInput(f"inpaint.smoothing={self.smoothing!r} is none of {', '.join(SMOOTHING)}.")


def build(config: Config, setup: Setup) -> Detector:
    return Inpaint(config, setup)


class Inpaint(Detector):
    """Generator and discriminator; the masks of the test are drawn once, from the run's seed."""

    def __init__(self, config: Config, setup: Setup):
        super().__init__()
        self.config, self.batch_size = config, config.batch_size
        self.epochs = config.epochs * (COPIES if config.step_per_copy else 1)
        self.side, halvings = side_for(setup.image_size)
        if wrong := [cell for cell in config.cells if self.side % cell or self.side // cell < 2]:
            raise BadInput(f"inpaint.cells: {wrong[0]} px does not divide {self.side} px; give powers of two.")
        self.net = Pix2Pix(halvings, config.width, config.lr, l1=config.l1, imagenet_range=config.imagenet_range)
        self.net.generator.train_mode_at_test(config.train_mode_at_test)
        generator = torch.Generator().manual_seed(setup.seed)
        for cell in config.cells:
            self.register_buffer(f"masks{cell}", masks(1, self.side, cell, generator))

    def prepare(self, images) -> None:
        self.net.start()

    def optimizer(self) -> torch.optim.Optimizer:
        return self.net.optimizer()

    def networks(self) -> list[torch.nn.Module]:
        return [self.net.generator, self.net.discriminator]

    def loss(self, image: Tensor) -> Tensor:
        real = self._framed(image)
        drawn = torch.randint(len(self.config.cells), (len(real),)).tolist()
        masked = torch.cat([masks(1, self.side, self.config.cells[which]) for which in drawn]).to(real.device)
        if self.config.step_per_copy:
            masked = masked[:, :1]  # which cells the first copy lacks is drawn anew each time
        return self.net.loss(*self._copies(real, masked))

    def response(self, image: Tensor) -> tuple[Tensor]:
        return (self._filled(self._framed(image), self.config.cells[-1]),)

    def reconstruct(self, image: Tensor) -> Tensor:
        """Every place as it was filled in from its surroundings, masked by the largest cells."""
        filled = self.net.range.back(self.response(image)[0])
        return filled if self.side == image.shape[-1] else F.interpolate(filled, image.shape[-2:], mode="bilinear")

    def predict(self, image: Tensor) -> Prediction:
        real = self._framed(image)
        maps = {cell: dissimilarity(real, self._filled(real, cell)) for cell in self.config.cells}
        weight = {cell: (cell / self.side) ** 2 if self.config.by_cells else 1 / len(maps) for cell in maps}
        total = sum(weight[cell] * found for cell, found in maps.items())
        return scored(self._smoothed(F.interpolate(total, image.shape[-2:], mode="bilinear")))

    def _framed(self, image: Tensor) -> Tensor:
        values = self.net.range(image)
        return values if values.shape[-1] == self.side else F.interpolate(values, self.side, mode="bilinear")

    def _copies(self, real: Tensor, masked: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, 3, H, W) with each mask (B, copies, H, W) at 0, and whole: both (B · copies, 3, H, W)."""
        given = real[:, None] * ~masked[:, :, None]
        return given.flatten(0, 1), real.repeat_interleave(masked.shape[1], 0)

    def _filled(self, real: Tensor, cell: int) -> Tensor:
        """(B, 3, H, W), every cell as it was filled where it was masked."""
        masked = getattr(self, f"masks{cell}").expand(len(real), -1, -1, -1)
        made = self.net.generator(self._copies(real, masked)[0]).unflatten(0, (-1, COPIES))
        return (made * masked[:, :, None]).sum(1)

    def _smoothed(self, anomaly_map: Tensor) -> Tensor:
        if self.config.smoothing == "2d":
            return smooth(anomaly_map, self.config.sigma)
        kernel = min(2 * int(4 * self.config.sigma + 0.5) + 1, 2 * anomaly_map.shape[-1] - 1)
        return gaussian_blur(anomaly_map, [kernel, 1], [self.config.sigma, self.config.sigma])


def masks(count: int, side: int, cell: int, generator: torch.Generator | None = None) -> Tensor:
    """(count, COPIES, side, side) bool: cells of `cell` px dealt out evenly, each True in exactly one of the copies."""
    cells = (side // cell) ** 2
    dealt = torch.rand(count, cells, generator=generator).argsort(1) % COPIES
    grid = dealt.view(count, 1, side // cell, side // cell) == torch.arange(COPIES).view(1, -1, 1, 1)
    return grid.repeat_interleave(cell, 2).repeat_interleave(cell, 3)
