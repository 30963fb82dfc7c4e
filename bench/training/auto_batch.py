"""A batch that does not fit the memory, in parts: the gradient of the whole, with one part's graph at a time.

The gradient is that of the whole batch (but for rounding) where the loss is a mean or a sum over images. It is not
where images of a batch see each other: batch norms, and losses that pick the hardest places, take those of their part.
What a failed attempt has drawn or averaged into a batch norm's running statistics is not taken back.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from bench.training import device
from bench.training.detector import Detector


class AutoBatch:
    """Takes a batch whole until memory runs out, then in two parts, four, and so on; each step begins whole again.

    A killed run that goes on so splits as one that was not. `tell` hears one sentence of every halving.
    """

    def __init__(self, tell: Callable[[str], None] = lambda text: None):
        self.tell = tell
        self.start()

    def start(self) -> None:
        """Begin a step."""
        self.parts = 1
        self.micro_batch = 0  # most images that were on a graph at a time, since the last halving

    def loss(self, detector: Detector, image: Tensor) -> Tensor:
        """Return the loss of (B, 3, H, W), halving what is taken at a time until it fits.

        Raises:
            RuntimeError: the allocator's own, where not even one image fits.
        """
        while True:
            try:
                loss = detector.loss(image) if self.parts == 1 else in_parts(detector, image, self.parts)
                self.micro_batch = max(self.micro_batch, self._part(image))
                return loss
            except RuntimeError as error:
                self.check(error, image)
            self.halve(image)  # outside: an exception holds on to the frames, and those to the graph

    def check(self, error: RuntimeError, image: Tensor) -> None:
        """Raise `error` again unless it tells of memory, and smaller parts are possible."""
        if not device.out_of_memory(error):
            raise error
        if self._part(image) == 1:
            error.add_note("--auto-batch: not even one image at a time fits; give a smaller --image-size or network.")
            raise error

    def halve(self, image: Tensor) -> None:
        """Take half as many images at a time from now on."""
        device.free_memory(image.device)
        before = self._part(image)
        self.parts = -(-len(image) // (before // 2))
        self.micro_batch = 0
        self.tell(
            f"a batch of {len(image)} does not fit the memory {before} at a time: goes on with {self._part(image)} at "
            "a time, gradients added up"
        )

    def _part(self, image: Tensor) -> int:
        return -(-len(image) // self.parts)


def in_parts(detector: Detector, image: Tensor, parts: int) -> Tensor:
    """The loss of (B, 3, H, W) as that of `parts` parts, each a slice through the whole; its gradient is ready then."""
    weights = [weight for weight in detector.parameters() if weight.requires_grad]
    return _InParts.apply(detector, image, min(parts, len(image)), *weights)


class _InParts(torch.autograd.Function):
    """Takes the gradient of each part while going forward: whatever a method does to the loss acts on their sum."""

    @staticmethod
    def forward(ctx, detector: Detector, image: Tensor, parts: int, *weights: Tensor) -> Tensor:
        total, ctx.gradients = image.new_zeros(()), [None] * len(weights)
        for start in range(parts):
            part = image[start::parts]  # replayed images are the second half of a batch: each part has both
            share = 1.0 if detector.loss_adds_up else len(part) / len(image)
            with torch.enable_grad():
                loss = detector.loss(part) * share
            total += loss.detach()
            if loss.requires_grad:
                found = torch.autograd.grad(loss, weights, allow_unused=True)
                ctx.gradients = [_sum(*pair) for pair in zip(ctx.gradients, found, strict=True)]
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return None, None, None, *(None if known is None else known * gradient for known in ctx.gradients)


def _sum(known: Tensor | None, new: Tensor | None) -> Tensor | None:
    return new if known is None else known if new is None else known.add_(new)
