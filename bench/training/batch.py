"""The two shapes that every part of the bench agrees on."""

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """What a mini-batch holds. While testing, `mask`, `label` and `category` are blank: the evaluator has the truth."""

    image: Tensor  # (B, 3, H, W) float, 0..1, never normalised
    mask: Tensor  # (B, 1, H, W) bool, True on defects
    label: Tensor  # (B,) 0 normal, 1 anomalous
    category: Tensor  # (B,) index of the class in the stream


class Prediction(NamedTuple):
    """What a detector says of a batch, each image judged on its own."""

    score: Tensor  # (B,) higher is more anomalous
    map: Tensor | None  # (B, 1, H, W) per pixel, at the resolution of the image; None: it judges whole images only
    route: Tensor | None = None  # (B,) step that the image was assigned to, where a method routes
