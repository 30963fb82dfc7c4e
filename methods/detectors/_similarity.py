"""Multi-scale gradient magnitude similarity of an image and its reconstruction.

Zavrtanik et al., Reconstruction by Inpainting for Visual Anomaly Detection (RIAD), Pattern Recognition 112, 2021.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.api import Prediction

STABILITY = 0.0026  # the constant c of the similarity
SCALES = 4


def dissimilarity(image: Tensor, other: Tensor) -> Tensor:
    """1 - MSGMS of (B, 3, H, W) pairs as (B, 1, H, W) in 0..1; H and W at least 24 px."""
    size = image.shape[-2:]
    total = torch.zeros_like(image[:, :1])
    for scale in range(SCALES):
        if scale:
            image, other = F.avg_pool2d(image, 2), F.avg_pool2d(other, 2)
        a, b = _gradient(image), _gradient(other)
        similarity = (2 * a * b + STABILITY) / (a.square() + b.square() + STABILITY)
        total += F.interpolate(similarity, size, mode="bilinear")
    return 1 - total / SCALES


def scored(anomaly_map: Tensor) -> Prediction:
    """Maps (B, 1, H, W), the highest value of each as its score."""
    return Prediction(anomaly_map.amax((1, 2, 3)), anomaly_map)


def _gradient(image: Tensor) -> Tensor:
    """Magnitude of the Prewitt gradient of the grey image, median filtered: (B, 1, H - 2, W - 2)."""
    grey = image.mean(1, keepdim=True)
    windows = F.unfold(F.pad(grey, (1, 1, 1, 1)), 3)  # (B, 9, H * W), zeros around the image
    smooth = windows.median(1).values.view_as(grey)
    across = torch.tensor([[-1.0, 0.0, 1.0]] * 3, device=image.device) / 3
    kernels = torch.stack([across, across.T.flip(0)])[:, None]
    return F.conv2d(smooth, kernels).square().sum(1, keepdim=True).sqrt()
