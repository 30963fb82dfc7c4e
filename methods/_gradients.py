"""Gradients of single training images, taken without a trace: for who measures what a step has learned."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from methods._without_trace import without_trace


def sample(strategy, images: int) -> Iterable[Tensor]:
    """Up to `images` images of the step, evenly spread over it, each as a batch of one (1, 3, H, W)."""
    dataset = strategy.experience.dataset
    for index in torch.linspace(0, len(dataset) - 1, min(images, len(dataset))).long().tolist():
        yield dataset[index][0][None].to(strategy.device)


def mean_over(
    images: Iterable[Tensor], detector: nn.Module, energy: Callable[[Tensor], Tensor], of: Callable[[Tensor], Tensor]
) -> dict[str, Tensor]:
    """Return the mean over `images` of `of(d energy(image) / d weight)` for each weight that takes part.

    Images of which the detector learns nothing, because it holds them out, do not count.
    """
    weights = {name: weight for name, weight in detector.named_parameters() if weight.requires_grad}
    total, count = {}, 0
    with without_trace(detector):
        for value in map(energy, images):
            if not value.requires_grad:
                continue
            count += 1
            gradients = torch.autograd.grad(value, list(weights.values()), allow_unused=True)
            for name, gradient in zip(weights, gradients, strict=True):
                if gradient is not None:
                    total[name] = total.get(name, 0) + of(gradient)
    return {name: value / count for name, value in total.items()}
