"""Dinomaly: a noisy bottleneck and linear attention restore a transformer's tokens, loosely (anomalib's model).

Guo et al., Dinomaly: The Less Is More Philosophy in Multi-Class Unsupervised Anomaly Detection, arXiv:2405.14325.
A backbone that is no plain vision transformer gives the features at each place as one layer of tokens.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from unittest import mock

import torch
from anomalib.models.image.dinomaly import torch_model
from anomalib.models.image.dinomaly.components import StableAdamW, WarmCosineScheduler
from anomalib.models.image.dinomaly.lightning_model import TRAINING_CONFIG
from anomalib.models.image.dinomaly.lightning_model import Dinomaly as Lightning
from torch import Tensor, nn
from torch.nn import functional as F

from bench.api import Detector, Prediction, Setup, clip, trainable

TRAITS = ("gradient",)
BACKBONE = "vit_base_patch14_reg4_dinov2.lvd142m"


@dataclass(frozen=True)
class Config:
    epochs: int = 44  # the paper's 10 000 batches on all of MVTec
    batch_size: int = 16
    lr: float = 2e-3  # StableAdamW with AMSGrad, weight decay 1e-4; falls to a tenth along a cosine
    warmup: int = 100  # batches until the rate is reached
    mining: int = 1000  # batches until only the hardest tenth of the places has its full gradient
    layers: int = 8  # of the transformer, in its middle
    depth: int = 8  # blocks of the decoder
    dropout: float = 0.2  # of the bottleneck: the noise
    side: int = 392  # px that images are brought to for the network; 0: the run's size, to whole patches

    @classmethod
    def tiny(cls) -> "Config":
        return cls(epochs=4, batch_size=8, warmup=20, mining=100, layers=4, depth=2, side=0)


def build(config: Config, setup: Setup) -> Detector:
    return Dinomaly(config, setup)


class Dinomaly(Detector):
    """Encoder (frozen), bottleneck and decoder; two groups of layers are compared, each as a mean of its layers."""

    def __init__(self, config: Config, setup: Setup):
        super().__init__()
        self.config, self.epochs, self.batch_size = config, config.epochs, config.batch_size
        encoder = setup.tokens(config.layers)
        self.side = max(1, round((config.side or setup.image_size) / encoder.patch_size)) * encoder.patch_size
        self.net = _model(config, encoder)
        learning = nn.ModuleList([self.net.bottleneck, self.net.decoder])
        Lightning._initialize_trainable_modules(learning)
        self.net.loss_fn.p_schedule_steps = config.mining
        self.batches = 0  # that this step's optimizer has taken

    def prepare(self, images: Iterable[Tensor]) -> None:
        """Count batches anew: mining hardens within every step."""
        self.batches = 0

    def optimizer(self) -> torch.optim.Optimizer:
        settings = TRAINING_CONFIG["optimizer"] | {"lr": self.config.lr}
        optimizer = clip(StableAdamW(trainable(self), **settings), TRAINING_CONFIG["trainer"]["gradient_clip_val"])
        optimizer.register_step_post_hook(self._count)
        return optimizer

    def _count(self, *_) -> None:
        self.batches += 1

    def scheduler(self, optimizer, iterations: int) -> torch.optim.lr_scheduler.LRScheduler:
        lr, warmup = self.config.lr, min(self.config.warmup, iterations)
        return WarmCosineScheduler(optimizer, lr, lr / 10, total_iters=iterations, warmup_iters=warmup)

    def _compare(self, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        return self.net.get_encoder_decoder_outputs(self._sized(image))

    def _sized(self, image: Tensor) -> Tensor:
        if image.shape[-1] == self.side:
            return image
        return F.interpolate(image, (self.side, self.side), mode="bilinear", antialias=True)

    def response(self, image: Tensor) -> list[Tensor]:
        return self._compare(image)[1]

    def loss(self, image: Tensor) -> Tensor:
        encoded, decoded = self._compare(image)
        return self.net.loss_fn(encoded, decoded, global_step=self.batches)

    def predict(self, image: Tensor) -> Prediction:
        found = self.net(self._sized(image))
        anomaly_map = F.interpolate(found.anomaly_map, image.shape[-2:], mode="bilinear")
        return Prediction(found.pred_score.flatten(), self.net.gaussian_blur(anomaly_map))


def _model(config: Config, encoder) -> torch_model.DinomalyModel:
    """anomalib's model around `encoder`, of whatever width and number of layers."""
    shape = {"embed_dim": encoder.width, "num_heads": _heads(encoder.width), "target_layers": encoder.blocks}
    with encoder.inside(torch_model.__name__), mock.patch.dict(torch_model.DINO_ARCHITECTURES, {"run's": shape}):
        model = torch_model.DinomalyModel("run's", config.dropout, config.depth, target_layers=encoder.blocks)
    groups = min(2, len(encoder.blocks))
    model.fuse_layer_encoder = _groups(len(encoder.blocks), groups)
    model.fuse_layer_decoder = _groups(config.depth, groups)
    return model


def _heads(width: int) -> int:
    """About one head per 64 channels, as in DINOv2."""
    return next(heads for heads in range(max(1, width // 64), 0, -1) if width % heads == 0)


def _groups(layers: int, count: int) -> list[list[int]]:
    """Split 0 .. layers - 1 into `count` runs."""
    return [part.tolist() for part in torch.arange(layers).chunk(count)]
