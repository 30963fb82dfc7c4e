"""Images from outside every class, for EfficientAD's penalty."""

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import center_crop, pil_to_tensor, resize, rgb_to_grayscale

from bench.api import BadInput

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


class OutsideImages:
    """Draws images from a folder tree: twice the size, grey in 3 of 10, cut to the middle; as in anomalib."""

    def __init__(self, folder: str, size: int):
        self.files = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in SUFFIXES)
        if not self.files:
            raise BadInput(f"efficientad.penalty_images={folder!r} holds no images; name a folder of pictures.")
        self.size, self.generator = size, torch.Generator()

    def restart(self) -> None:
        """Draw on from a seed out of the run's generator, so that a resumed step sees the same images."""
        self.generator.manual_seed(int(torch.randint(2**31, ())))

    def __call__(self, count: int) -> Tensor:
        """Return (count, 3, size, size) in 0..1."""
        return torch.stack([self._draw() for _ in range(count)])

    def _draw(self) -> Tensor:
        chosen = self.files[int(torch.randint(len(self.files), (), generator=self.generator))]
        with Image.open(chosen) as picture:
            image = pil_to_tensor(picture.convert("RGB"))
        image = resize(image, [2 * self.size, 2 * self.size])
        if torch.rand((), generator=self.generator) < 0.3:
            image = rgb_to_grayscale(image, 3)
        return center_crop(image, [self.size, self.size]).float() / 255
