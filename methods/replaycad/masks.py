"""Where the item is in a training image: by its difference from the border, by SAM, or from files.

All return (n, H, W) bool for images (n, 3, H, W) in 0..1.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from bench.api import BadInput

MARGIN = 0.08  # of the width: the strip along the border that is taken for ground
CENTRED = 0.4  # by how much more of the middle than of the border is foreground where there is an item


def foreground(images: Tensor) -> Tensor:
    """What differs in colour from the border (Otsu's threshold), holes filled; the whole image for a surface.

    A class is a surface unless in most of its images the foreground lies in the middle rather than at the border.
    """
    found = [_foreground(image.movedim(0, -1).double().cpu().numpy()) for image in images]
    things = [mask for mask in found if _centred(mask)]
    if len(things) <= len(found) / 2:
        return torch.ones(len(images), *images.shape[-2:], dtype=torch.bool)
    return torch.from_numpy(np.stack(found))


def _foreground(image: np.ndarray) -> np.ndarray:
    edge = ~_middle(len(image), MARGIN)
    ground = image[edge]
    precision = np.linalg.inv(np.cov(ground, rowvar=False) + 1e-4 * np.eye(3))
    away = image - ground.mean(0)
    distance = ndimage.gaussian_filter(np.sqrt(np.einsum("hwc,cd,hwd->hw", away, precision, away)), len(image) / 128)
    return ndimage.binary_fill_holes(ndimage.binary_opening(distance > _otsu(distance)))


def _otsu(values: np.ndarray, bins: int = 128) -> float:
    """The threshold that parts values into the two most different groups (Otsu 1979)."""
    count, edges = np.histogram(values, bins)
    middle = (edges[1:] + edges[:-1]) / 2
    low, total = np.cumsum(count), np.cumsum(count * middle)
    high = low[-1] - low
    with np.errstate(divide="ignore", invalid="ignore"):
        between = low * high * (total / low - (total[-1] - total) / high) ** 2
    return float(middle[np.nanargmax(between)])


def _centred(mask: np.ndarray) -> bool:
    return mask[_middle(len(mask), 0.3)].mean() - mask[~_middle(len(mask), MARGIN)].mean() > CENTRED


def _middle(size: int, margin: float) -> np.ndarray:
    cut = max(1, round(margin * size))
    inside = np.zeros((size, size), bool)
    inside[cut:-cut, cut:-cut] = True
    return inside


class Sam:
    """Segment Anything (Kirillov et al., arXiv:2304.02643) asked for the one thing in a box just inside the border."""

    def __init__(self, source: str, device: str):
        from transformers import SamModel, SamProcessor

        try:
            self.model = SamModel.from_pretrained(source).eval().to(device)
            self.processor = SamProcessor.from_pretrained(source)
        except (OSError, ValueError) as error:
            raise BadInput(
                f"replaycad.sam={source}: no such folder, nor weights of that name in the hub's local cache; fetch "
                f"them once with network by `hf download {source}`, or give a folder written by `save_pretrained`."
            ) from error

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        return torch.stack([self._one(image) for image in images.mul(255).round().byte().cpu()])

    def _one(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        box = [[[MARGIN / 2 * width, MARGIN / 2 * height, (1 - MARGIN / 2) * width, (1 - MARGIN / 2) * height]]]
        asked = self.processor(image.movedim(0, -1).numpy(), input_boxes=box, return_tensors="pt")
        answer = self.model(**asked.to(self.model.device), multimask_output=False)
        sizes = asked["original_sizes"], asked["reshaped_input_sizes"]
        return self.processor.image_processor.post_process_masks(answer.pred_masks.cpu(), *sizes)[0][0, 0].bool()


def from_folder(folder: str, name: str, images: Tensor) -> Tensor:
    """The masks in `folder/name`, one file per training image in the order of the images, white on the item.

    Raises:
        BadInput: if there are none, or not as many as images.
    """
    place = Path(folder) / name
    files = sorted(file for file in place.glob("*") if file.suffix.lower() in (".png", ".jpg", ".jpeg", ".bmp"))
    if len(files) != len(images):
        raise BadInput(
            f"replaycad.mask_folder={folder}: {place} holds {len(files)} mask files for {len(images)} training images; "
            "give one per image, named in the order of the images."
        )
    size = images.shape[-1], images.shape[-2]
    read = [np.asarray(Image.open(file).convert("L").resize(size, Image.NEAREST)) > 127 for file in files]
    return torch.from_numpy(np.stack(read))
