"""IUF: UniAD whose queries know the object, and whose later updates leave the strongest directions alone.

Tang et al., An Incremental Unified Framework for Small Defect Inspection, arXiv:2312.08917. Object-aware attention
weighs the encoder's queries and is trained by the class labels (OASA); at the first step the decoder's outputs are
pressed into few directions (SCL); from the second step on gradients of the blocks' last layers are weighed along the
directions of earlier data, the weights are pulled towards the old ones, and plain gradient descent is used (US).
The authors' uneven epochs, flipped AUROC and epoch chosen on the test set are not taken over.
Kept between steps: second moments of the blocks' outputs, and the weights of the step before.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.api import BadInput, Plugin, Setup, Strategy, clip, trainable
from methods.iuf.attention import ObjectAttention
from methods.iuf.directions import Compression, basis, weigh

DEFAULT_DETECTOR = "uniad"
REQUIRES = "feature_transformer"
CAPABILITIES = ("labels",)


@dataclass(frozen=True)
class Config:
    attention: bool = True  # object-aware attention (OASA)
    classes: int = 15  # that its classifier can tell apart, all that may ever come
    width: int = 256  # of its tokens, one per pixel
    hidden: int = 128  # units in its blocks
    compression: float = 10.0  # weight of the loss on small singular values at the first step (SCL); 0: none
    subspace: bool = True  # projected gradients, pulled weights and plain descent from the second step on (US)
    lr: float = 1e-4  # of that descent
    pull: float = 0.05  # share of the old weights that is mixed in before every batch

    @classmethod
    def tiny(cls) -> "Config":
        return cls(width=16, hidden=32, lr=0.02, pull=0.01)


def build(config: Config, setup: Setup) -> Strategy:
    return setup.strategy([Incremental(config, setup.detector)])


class Incremental(Plugin):
    """The three parts of IUF around a UniAD."""

    def __init__(self, config: Config, detector):
        super().__init__()
        self.config, self.detector = config, detector
        self.blocks = [layer.forward_part.linear2 for layer in (*detector.encoder, *detector.decoder)]
        self.moments: list[Tensor] = []  # of each block's outputs over all steps, (width, width)
        self.bases: list[Tensor] = []  # their directions, strongest first, one per row
        self.old: dict[str, Tensor] = {}  # weights after the step before
        self.compression = Compression(detector.decoder[:3], detector.config.width) if config.compression else None
        if config.attention:
            detector.object_attention = ObjectAttention(
                config.width, config.hidden, config.classes, detector.config.width, len(detector.encoder)
            )
            detector.query_weights = self._weights

    def _weights(self, image: Tensor) -> list[Tensor]:
        size = int(len(self.detector.position) ** 0.5)
        weights, self.logits = self.detector.object_attention(image, size)
        return weights

    def before_training_exp(self, strategy, **_):
        """Descend plainly from the second step on."""
        if self.config.subspace and self.old:
            self.bases = [basis(moment) for moment in self.moments]
            strategy.optimizer = clip(torch.optim.SGD(trainable(self.detector), self.config.lr), 0.1)

    @torch.no_grad()
    def before_forward(self, strategy, **_):
        """Pull the weights towards those of the step before."""
        if self.config.subspace and self.old:
            for name, weight in self.detector.named_parameters():
                if name in self.old:
                    weight.lerp_(self.old[name].to(weight), self.config.pull)

    def before_backward(self, strategy, **_):
        """Add the classifier's loss, and at the first step that of the compression."""
        if self.config.attention:
            category = strategy.mbatch.category
            if int(category.max()) >= self.config.classes:
                raise BadInput(f"iuf tells {self.config.classes} classes apart and more came; set iuf.classes.")
            known = category >= 0
            if known.any():
                strategy.loss = strategy.loss + F.cross_entropy(self.logits[known], category[known])
        if self.compression and not self.old:
            strategy.loss = strategy.loss + self.config.compression * self.compression.loss()

    @torch.no_grad()
    def before_update(self, strategy, **_):
        """Weigh the blocks' gradients along the directions of earlier data: none along the strongest."""
        for block, directions in zip(self.blocks, self.bases, strict=False):
            block.weight.grad = weigh(block.weight.grad, directions.to(block.weight))

    @torch.no_grad()
    def after_training_exp(self, strategy, **_):
        """Add this step's outputs, averaged over each batch, to the moments, and keep the weights."""
        if self.compression:
            self.compression.stop()
        self.logits = None
        width = self.blocks[0].out_features
        new = [torch.zeros(width, width) for _ in self.blocks]
        handles = [
            block.register_forward_hook(_moment_into(total)) for block, total in zip(self.blocks, new, strict=True)
        ]
        training = self.detector.training
        self.detector.eval()
        for image in strategy.images:
            self.detector.response(image)
        self.detector.train(training)
        for handle in handles:
            handle.remove()
        self.moments = [a + b for a, b in zip(self.moments or [0] * len(new), new, strict=True)]
        self.old = {n: w.detach().clone() for n, w in self.detector.named_parameters() if w.requires_grad}

    def state_dict(self) -> dict:
        return {"moments": self.moments, "old": self.old}

    def load_state_dict(self, state: dict) -> None:
        self.moments, self.old = [moment.cpu() for moment in state["moments"]], state["old"]
        if self.compression and self.old:
            self.compression.stop()


def _moment_into(total: Tensor):
    """A hook that adds the second moment of a layer's outputs (B, n, D), averaged over the batch."""

    def add(module: nn.Module, inputs, output: Tensor) -> None:
        mean = output.mean(0)
        total.add_((mean.T @ mean).cpu())

    return add
