"""How drifting images differ from their originals, by level: in colour, sharpness, geometry (see `bench.data.drift`).

Image (S, S, 3) uint8 and mask (S, S) bool in, the same out. `growing`: a level up to this one is drawn.
"""

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageEnhance
from scipy.ndimage import gaussian_filter

SIDE = 224  # px, of the images that the geometric shifts are meant for

Distorted = tuple[np.ndarray, np.ndarray]  # image and mask


def distort_colour(image, mask, level: int, growing: bool, draw: Generator) -> Distorted:
    """Brightness, contrast and saturation times one number, 1 plus or minus 5 % of the level."""
    strength = draw.uniform(0 if growing else 0.05 * (level - 1), 0.05 * level)
    factor = max(0.0, 1 + strength * draw.choice([-1, 1]))
    picture = Image.fromarray(image)
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        picture = enhance(picture).enhance(factor)
    return np.asarray(picture), mask


def distort_sharpness(image, mask, level: int, growing: bool, draw: Generator) -> Distorted:
    """A Gaussian over 2 level - 1 px with a spread of half the level; the first level has none."""
    level = int(draw.integers(1, level + 1)) if growing else level
    blurred = gaussian_filter(image.astype(np.float32), (0.5 * level, 0.5 * level, 0), radius=(level - 1, level - 1, 0))
    return blurred.round().clip(0, 255).astype(np.uint8), mask


def distort_geometry(image, mask, level: int, growing: bool, draw: Generator) -> Distorted:
    """Turn, shift, scale and shear about the centre; what comes in from outside is black and no defect."""
    angle, shear = np.radians(draw.uniform(-2 * level, 2 * level)), np.radians(draw.uniform(-level, level))
    scale, size = 1 + draw.uniform(-0.01 * level, 0.01 * level), image.shape[0]
    shift = draw.uniform(-level, level, 2) * size / SIDE
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    back = np.linalg.inv(scale * turn @ np.array([[1, np.tan(shear)], [0, 1]]))
    centre = np.full(2, size / 2)
    offset = centre - back @ (centre + shift)
    entries = (back[0, 0], back[0, 1], offset[0], back[1, 0], back[1, 1], offset[1])
    moved = [
        np.asarray(Image.fromarray(array).transform((size, size), Image.Transform.AFFINE, entries, how))
        for array, how in (
            (image, Image.Resampling.BILINEAR),
            (mask.astype(np.uint8) * 255, Image.Resampling.NEAREST),
        )
    ]
    return moved[0], moved[1] > 127
