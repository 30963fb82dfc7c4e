"""Natural synthetic anomalies: patches of images pasted into images by Poisson blending.

Schlüter et al., Natural Synthetic Anomalies for Self-Supervised Anomaly Detection and Localization, arXiv:2109.15222,
with One-for-More's settings.
"""

import cv2
import numpy as np
import torch
from torch import Tensor

ATTEMPTS = 4  # the first is always made, each further one with even odds
SIZE = (0.03, 0.4)  # half the sides of a crop, and the whole sides of the patch made of it, as shares of the image's
SCALE = (0.7, 1.3)  # a crop is resized by a normal draw around 1 of deviation 0.5, cut to this, then to SIZE
FEWEST = 50  # pixels of a patch at least, at 256 px


def corrupted(image: Tensor, share: float, other: bool) -> Tensor:
    """Images (B, 3, H, W) in 0..1 of which a share, drawn one by one, got patches of themselves.

    With `other` the patches are those of another image of the batch; the paper takes one of the same class, which
    nobody tells here. Draws follow torch's generator.
    """
    rng = np.random.default_rng(torch.randint(2**62, ()).item())
    pictures = (image.detach() * 255).round().byte().movedim(1, -1).cpu().numpy()
    made = [
        paste_patches(picture, _source(pictures, i, other, rng), rng) if rng.random() < share else picture
        for i, picture in enumerate(pictures)
    ]
    return torch.from_numpy(np.stack(made)).movedim(-1, 1).to(image) / 255


def _source(pictures: np.ndarray, i: int, other: bool, rng: np.random.Generator) -> np.ndarray:
    step = rng.integers(1, len(pictures)) if other and len(pictures) > 1 else 0
    return pictures[(i + step) % len(pictures)]


def paste_patches(target: np.ndarray, source: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A copy of `target` (H, W, 3) uint8 with one to four patches of `source`."""
    made = target
    for attempt in range(ATTEMPTS):
        if attempt == 0 or rng.random() < 0.5:
            made = _paste(made, _patch(source, rng), rng)
    return made


def _patch(source: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A crop of random place and size, resized; its longer side ends at the upper bound at most."""
    sides = np.array(source.shape[:2])
    low, high = (np.maximum(1, (share * sides).astype(int)) for share in SIZE)
    half = rng.integers(low, np.maximum(high, low + 1))
    centre = rng.integers(low, sides - low)
    (top, left), (bottom, right) = np.maximum(0, centre - half), np.minimum(sides, centre + half)
    crop = source[top:bottom, left:right]
    size = np.array(crop.shape[:2])
    factor = np.clip(rng.normal(1, 0.5), *SCALE)
    factor = min(max(factor, *(low / size)), *(high / size))  # one for both sides, so that the patch keeps its shape
    height, width = np.maximum(1, np.rint(factor * size).astype(int))
    return cv2.resize(crop, (int(width), int(height)))


def _paste(target: np.ndarray, patch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blend a patch in at a random place; a patch that is too small, or that OpenCV does not blend, leaves no trace."""
    sides, size = np.array(target.shape[:2]), np.array(patch.shape[:2])
    mask = np.zeros(size, np.uint8)
    mask[1:-1, 1:-1] = 255
    if np.count_nonzero(mask) < FEWEST * sides.prod() / 256**2:
        return target
    low = size // 2 + 1
    row, column = rng.integers(low, np.maximum(sides - low, low + 1))
    try:
        return cv2.seamlessClone(patch, target, mask, (int(column), int(row)), cv2.NORMAL_CLONE)
    except cv2.error:
        return target
