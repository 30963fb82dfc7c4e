"""Masks from what the authors of images publish of their defects: a file's content and the size of its image (width,
height) in, bool (H, W) out."""

import io
import json

import numpy as np
from PIL import Image, ImageDraw


def mask_of_polygons(content: bytes, size: tuple[int, int]) -> np.ndarray:
    """labelme's JSON: every polygon is filled, whatever its label."""
    mask = Image.new("1", size)
    for shape in json.loads(content)["shapes"]:
        points = [(round(x), round(y)) for x, y in shape["points"]]
        ImageDraw.Draw(mask).polygon(points, fill=1, outline=1)
    return np.asarray(mask)


def mask_of_boxes(content: bytes, size: tuple[int, int]) -> np.ndarray:
    """Lines `x1 y1 x2 y2 type`: every box is filled."""
    mask = np.zeros(size[::-1], bool)
    for line in content.decode().splitlines():
        if line.strip():
            left, top, right, bottom = (int(number) for number in line.replace(",", " ").split()[:4])
            mask[top : bottom + 1, left : right + 1] = True
    return mask


def mask_of_indices(content: bytes, size: tuple[int, int]) -> np.ndarray:
    """A palette image: every index but 0 is a defect, whatever its colour; of true colours, every one but black."""
    values = np.asarray(Image.open(io.BytesIO(content)))
    return values > 0 if values.ndim == 2 else values[..., :3].any(axis=2)


def mask_of_grey(content: bytes, size: tuple[int, int]) -> np.ndarray:
    """A grey image with soft borders: above 127."""
    return np.asarray(Image.open(io.BytesIO(content)).convert("L")) > 127
