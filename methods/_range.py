"""The range that a network with a Tanh at its end can reach."""

import torch
from torch import Tensor, nn


class Range(nn.Module):
    """Images in 0..1 to -1..1 and back.

    `imagenet`: normalised as for ImageNet instead, as the code of SCALE was released; colours beyond the Tanh are lost.
    """

    def __init__(self, imagenet: bool = False):
        super().__init__()
        shift, scale = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)) if imagenet else ((0.5,), (0.5,))
        self.register_buffer("shift", torch.tensor(shift).view(1, -1, 1, 1))
        self.register_buffer("scale", torch.tensor(scale).view(1, -1, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        return (image - self.shift) / self.scale

    def back(self, value: Tensor) -> Tensor:
        """Values of the network as an image in 0..1."""
        return (value * self.scale + self.shift).clamp(0, 1)
