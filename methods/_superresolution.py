"""SCALE's codec: Lanczos thumbnails, and a pix2pix, trained along the stream, that makes images of them again.

Dalle Pezze et al., Continual Learning Approaches for Anomaly Detection, arXiv:2212.11192.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from bench.api import BadInput
from methods._pix2pix import Pix2Pix, side_for
from methods._quota import as_bytes

DECODE_BATCH = 32  # images
Pairs = tuple[Tensor, Tensor]  # thumbnails and images


@dataclass(frozen=True)
class Options:
    """The memory and the codec."""

    memory: int = 100  # thumbnails in all; the field uses 40, 100 and 300 images
    factor: int = 8  # an image of 256 px is kept as 32 px: 64 times fewer bytes
    epochs: int = 5  # of the super-resolution, per step
    batch_size: int = 1  # images per optimizer step of the super-resolution
    lr: float = 2e-4  # Adam of generator and discriminator, betas (0.5, 0.999)
    l1: float = 100.0  # weight of the L1 term beside the GAN's
    width: int = 64  # channels of generator and discriminator after the first layer
    imagenet_range: bool = False  # as released: ImageNet-normalised targets, whose range the Tanh cannot reach
    train_mode_at_test: bool = False  # as released: dropout and each image's own statistics when decoding

    @classmethod
    def tiny(cls):
        return cls(memory=12, factor=4, epochs=10, batch_size=8, lr=2e-3, width=12)


class SuperResolution(nn.Module):
    """Images and thumbnails are (n, 3, h, w) uint8 on the CPU; only the networks live on the device."""

    def __init__(self, options: Options, pixels: int):
        super().__init__()
        if not 1 <= options.factor <= pixels:
            raise BadInput(f"factor={options.factor} makes no thumbnail of {pixels} px: give 1 to {pixels}.")
        self.options, self.pixels, self.small = options, pixels, max(1, pixels // options.factor)
        self.side, halvings = side_for(pixels)
        self.net = Pix2Pix(halvings, options.width, options.lr, l1=options.l1, imagenet_range=options.imagenet_range)
        self.net.generator.train_mode_at_test(options.train_mode_at_test)

    def shrink(self, images: Tensor) -> Tensor:
        """Images to thumbnails."""
        return lanczos(images, self.small)

    @torch.no_grad()
    def decode(self, thumbnails: Tensor) -> Tensor:
        """Thumbnails to what the generator makes of them now, at the size of the images."""
        self.net.eval()
        given = lanczos(thumbnails, self.side).split(DECODE_BATCH)
        made = [as_bytes(self.net.range.back(self.net.generator(self._values(part)))) for part in given]
        return lanczos(torch.cat(made), self.pixels)

    def fit(self, new: Pairs, old: Pairs | None, draw: Callable[[int], Tensor]) -> None:
        """Train for one step of the stream on pairs (thumbnails, images) of new classes and of the memory.

        For every new pair one of the memory is learned, at the places that `draw(count)` gives. Its images are what
        the memory makes of its thumbnails as the step begins: the network is its own teacher for the past.
        """
        self.net.train()
        optimizer = self.net.optimizer()
        for batch in self._batches(self._joined(new), old and self._joined(old), draw):
            given, real = (self._values(part) for part in batch.chunk(2, 1))
            optimizer.zero_grad()
            self.net.loss(given, real).backward()
            optimizer.step()
        optimizer.zero_grad()
        self.net.start()  # optimizers do not outlive a step
        self.net.eval()

    def _joined(self, pairs: Pairs) -> Tensor:
        return torch.cat([lanczos(part, self.side) for part in pairs], 1)  # (n, 6, H, W)

    def _batches(self, new: Tensor, old: Tensor | None, draw: Callable[[int], Tensor]) -> Iterator[Tensor]:
        for _ in range(self.options.epochs):
            for places in torch.randperm(len(new)).split(self.options.batch_size):
                batch = new[places]
                if old is not None:
                    batch = torch.cat([batch, old[draw(len(places))]])[torch.randperm(2 * len(places))]
                yield from batch.split(self.options.batch_size)

    def _values(self, images: Tensor) -> Tensor:
        device = self.net.range.shift.device
        return self.net.range(images.to(device).float().div(255))


def lanczos(images: Tensor, side: int) -> Tensor:
    """(n, 3, h, w) uint8 resized by Pillow's Lanczos filter to `side` px; untouched where they have that size."""
    if images.shape[-1] == side or not len(images):
        return images
    pictures = [Image.fromarray(image).resize((side, side), Image.Resampling.LANCZOS) for image in _rows(images)]
    return torch.from_numpy(np.stack(pictures)).movedim(-1, 1).contiguous()


def _rows(images: Tensor) -> np.ndarray:
    return np.ascontiguousarray(images.movedim(1, -1).numpy())
