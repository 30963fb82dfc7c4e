"""DNE's detector: a network that tells images from ones with a pasted patch; a Gaussian of normal embeddings judges.

Li et al., Towards Continual Adaptation in Industrial Anomaly Detection (ACM MM 2022), on CutPaste (Li et al.,
arXiv:2104.04015). The score is the Mahalanobis distance of the normalised embedding, of the image as a whole: there is
no map, and so no pixel metric. The statistics are of the weights as they end; the authors' are gathered within the last
epoch, while the weights still move.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from sklearn.covariance import ledoit_wolf
from torch import Tensor, nn
from torch.nn import functional as F

from bench.api import Detector, Prediction, Setup, trainable

TRAITS = ("gradient", "normal_embedding", "image_level")
BACKBONE = "vit_base_patch16_224.augreg_in21k"
AREA, ASPECT, JITTER = (0.02, 0.15), (0.3, 3.3), 0.1  # of a pasted patch: share of the image, sides, brightness


@dataclass(frozen=True)
class Config:
    epochs: int = 50
    batch_size: int = 32
    lr: float = 1e-4  # Adam with weight decay 3e-5; falls along a cosine

    @classmethod
    def tiny(cls) -> "Config":
        return cls(epochs=4, batch_size=8)


def build(config: Config, setup: Setup) -> Detector:
    return CutPasteNet(config, setup)


class CutPasteNet(Detector):
    """A network and its head, trained; mean and precision of its embeddings, of length one, of normal images."""

    def __init__(self, config: Config, setup: Setup):
        super().__init__()
        self.config, self.epochs, self.batch_size = config, config.epochs, config.batch_size
        self.network = setup.embedder()
        self.head = nn.Linear(self.network.width, 2)
        self.register_buffer("mean", torch.zeros(self.network.width))
        self.register_buffer("precision", torch.eye(self.network.width))
        self.embeddings = torch.empty(0)  # (n, D) of the step just learned

    def freeze_head(self) -> None:
        """Leave the head as it is from now on."""
        self.head.requires_grad_(False)

    def optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(trainable(self), self.config.lr, weight_decay=3e-5)

    def scheduler(self, optimizer, iterations: int) -> torch.optim.lr_scheduler.LRScheduler:
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, iterations)

    def embed(self, image: Tensor) -> Tensor:
        """Embeddings (B, D) of length one."""
        return F.normalize(self.network(image), dim=1)

    def response(self, image: Tensor) -> list[Tensor]:
        return [self.network(image)]

    def loss(self, image: Tensor) -> Tensor:
        logits = self.head(self.network(torch.cat([image, cut_paste(image)])))
        pasted = torch.arange(2, device=image.device).repeat_interleave(len(image))
        return F.cross_entropy(logits, pasted)

    @torch.no_grad()
    def consolidate(self, images: Iterable[Tensor]) -> None:
        training = self.training
        self.eval()
        self.embeddings = torch.cat([self.embed(image) for image in images])
        self.train(training)
        self.fit(self.embeddings)

    def fit(self, embeddings: Tensor) -> None:
        """Judge by one Gaussian of embeddings (n, D), its covariance shrunk after Ledoit and Wolf."""
        self.mean = embeddings.mean(0)
        self.precision = torch.linalg.inv(shrunk_covariance(embeddings).double()).float().contiguous()

    def predict(self, image: Tensor) -> Prediction:
        difference = self.embed(image) - self.mean
        return Prediction(torch.stack([one @ self.precision @ one for one in difference]).clamp(min=0).sqrt(), None)


def shrunk_covariance(embeddings: Tensor) -> Tensor:
    """Ledoit and Wolf's covariance (D, D) of embeddings (n, D)."""
    return torch.from_numpy(ledoit_wolf(embeddings.double().cpu().numpy())[0]).to(embeddings)


def cut_paste(image: Tensor) -> Tensor:
    """Images (B, 3, H, W) with one patch of their own, a little brighter or darker, pasted at another place."""
    pasted, (height, width) = image.clone(), image.shape[-2:]
    for one in pasted:
        draw = torch.rand(7).tolist()
        area = (AREA[0] + draw[0] * (AREA[1] - AREA[0])) * height * width
        aspect = math.exp(math.log(ASPECT[0]) + draw[1] * math.log(ASPECT[1] / ASPECT[0]))
        h = min(height, max(1, round(math.sqrt(area * aspect))))
        w = min(width, max(1, round(math.sqrt(area / aspect))))
        top, left, row, column = (
            int(part * (size + 1)) for part, size in zip(draw[2:6], (height - h, width - w) * 2, strict=True)
        )
        patch = one[:, top : top + h, left : left + w].clone()
        one[:, row : row + h, column : column + w] = (patch * (1 + JITTER * (2 * draw[6] - 1))).clamp(0, 1)
    return pasted
