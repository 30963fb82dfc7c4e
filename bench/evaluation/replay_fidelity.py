"""How true a memory is: its pictures against the training images they stand for, which the method no longer has."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from bench.data import Arrays, rows_of
from bench.schema.request import PROCEDURAL, TINY_BACKBONE, BackboneSpec, Weights
from bench.schema.stream import Stream
from bench.training.backbone import Features
from bench.training.experiences import as_float

STRIDES = (4, 8, 16)  # of the features behind FFD
NETWORK = BackboneSpec(TINY_BACKBONE, Weights("procedural", file=str(PROCEDURAL)))


class Quality:
    """Measures what plugins recall. The originals stay here: a plugin gives pictures and gets nothing."""

    def __init__(self, stream: Stream, arrays: Arrays, device: str = "cpu"):
        self.stream, self.arrays, self.device = stream, arrays, device
        self._features: Features | None = None

    def measure(self, recalled: dict, step: int, thumbnail: float | None = None) -> dict[str, float]:
        """What is true of a plugin's memory after `step`, as `Plugin.recall` gives it; nothing if that is nothing.

        memory_psnr (dB) and memory_ssim: mean over its pictures, where each stands for an image; memory_psnr/CLASS.
        memory_psnr_lanczos: that of the same images made `thumbnail` px small and large again by Lanczos' filter, for
        memories that say so (`thumbnail_px` of their report): what a codec must be better than.
        memory_ffd: Fréchet distance of the pictures' features to those of the originals, or, where they stand for no
        image, of as many images spread over the classes seen. Its network is the same for every cell: the project's
        own, not Inception, so FFDs compare with each other and with nothing else.
        """
        recalled = {category: found for category, found in recalled.items() if len(found[0])}
        if not recalled:
            return {}
        pairs: dict[int, tuple[Tensor, Tensor]] = {}  # pictures and originals, (n, 3, H, W) floats in 0..1
        seen = [c for c, learned in enumerate(self.stream.learned_at) if learned <= step]
        for category, (pictures, places) in recalled.items():
            rows = rows_of(self.arrays, seen if category < 0 else [category], train=True)
            if places is None:
                places = np.linspace(0, len(rows) - 1, len(pictures)).round().astype(int)
            originals = np.stack([self.arrays.images[row] for row in rows[np.asarray(places)]])
            pairs[category] = pictures.cpu().float() / 255, as_float(torch.from_numpy(originals))
        noted = {"memory_ffd": self.ffd(*_joined(pairs))}
        true = {category: pair for category, pair in pairs.items() if recalled[category][1] is not None}
        if true:
            made, real = _joined(true)
            noted["memory_psnr"] = psnr(made, real)
            if thumbnail:
                noted["memory_psnr_lanczos"] = psnr(through(real, round(thumbnail)), real)
            noted["memory_ssim"] = structural_similarity_index_measure(made, real, data_range=1.0).item()
        return noted | {f"memory_psnr/{self.stream.classes[category]}": psnr(*pair) for category, pair in true.items()}

    def ffd(self, made: Tensor, real: Tensor) -> float:
        """Fréchet distance between the pooled features of two sets of images (n, 3, H, W)."""
        return frechet(self._pooled(made), self._pooled(real))

    @torch.no_grad()
    def _pooled(self, images: Tensor) -> np.ndarray:
        if self._features is None:
            self._features = Features(NETWORK, STRIDES).to(self.device)
        parts = [self._features(part.to(self.device)).values() for part in images.split(32)]
        return torch.cat([torch.cat([f.mean((2, 3)) for f in part], 1) for part in parts]).double().cpu().numpy()


def psnr(made: Tensor, real: Tensor) -> float:
    """Mean over pairs of images (n, 3, H, W) in 0..1 of the peak signal-to-noise ratio of each, dB."""
    return peak_signal_noise_ratio(made, real, 1.0, reduction="elementwise_mean", dim=(1, 2, 3)).item()


def through(images: Tensor, side: int) -> Tensor:
    """Images (n, 3, H, W) in 0..1 by way of thumbnails of `side` px, both ways by Pillow's Lanczos filter, in bytes."""
    rows = images.mul(255).round().byte().movedim(1, -1).cpu().numpy()
    sizes = (side, side), (images.shape[-1], images.shape[-2])
    pictures = [Image.fromarray(image) for image in np.ascontiguousarray(rows)]
    for size in sizes:
        pictures = [picture.resize(size, Image.Resampling.LANCZOS) for picture in pictures]
    return as_float(torch.from_numpy(np.stack(pictures)))


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Squared Fréchet distance of the Gaussians fitted to (n, D) and (m, D): |μa - μb|² + tr(A + B - 2 (AB)^½)."""
    A, B = (np.atleast_2d(np.cov(x, rowvar=False, ddof=0)) for x in (a, b))
    roots = np.sqrt(
        np.linalg.eigvals(A @ B).real.clip(0)
    )  # the eigenvalues of a product of covariances are not negative
    return float(np.square(a.mean(0) - b.mean(0)).sum() + np.trace(A) + np.trace(B) - 2 * roots.sum())


def _joined(pairs: dict[int, tuple[Tensor, Tensor]]) -> list[Tensor]:
    return [torch.cat(side) for side in zip(*pairs.values(), strict=True)]
