"""The strength of a penalty as a ratio: how hard it pulls back, over how hard the new images push.

Losses of detectors differ a million-fold, so one absolute strength is inert on one of them and freezes another. Here
a strength of 1 means: at a stated distance from where the last step ended, the gradient of the penalty is as long as
the gradient of the new step's loss is where that step begins. The distance is that of the way that the weights went in
the last step. Both lengths come from training images of the step at hand; one number is carried.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from methods._gradients import mean_over, sample
from methods._without_trace import drift, without_trace

IMAGES = 16  # of a step, that the gradient of its loss is averaged over


class RelativeStrength:
    """Turns a ratio into the factor of a penalty, anew for each step; without a ratio the factor is as it was given."""

    def __init__(self, ratio: float, absolute: float):
        self.ratio, self.absolute = ratio, absolute
        self.pull = torch.zeros(())  # length of the penalty's gradient at the stated distance
        self.factor = absolute

    def leave(self, detector: nn.Module) -> None:
        """Note the weights where a step begins."""
        self.start = {name: weight.detach().clone() for name, weight in trained(detector)}

    def face(self, strategy) -> None:
        """Set the factor of a step that begins; call it once the detector is prepared for its images."""
        if self.absolute or not self.pull:
            return
        gradients = mean_over(sample(strategy, IMAGES), strategy.model, strategy.model.loss, lambda gradient: gradient)
        self.factor = self.ratio * length(gradients.values()) / self.pull.item()

    def arrive(self, detector: nn.Module, penalty: Callable[[], dict[str, Tensor]]) -> None:
        """Measure the gradient of `penalty`, by name of weight, where the step that ends has begun."""
        if not self.absolute:
            with at(detector, self.start):
                self.pull = torch.tensor(length(penalty().values()))
        self.start = {}  # as large as the detector, and done with

    def arrive_by_response(self, strategy) -> None:
        """As `arrive`, for a penalty on how far the response to the images of the step moves from that of now."""
        detector, images = strategy.model, torch.cat(list(sample(strategy, IMAGES)))
        with without_trace(detector), torch.no_grad():
            then = [part.clone() for part in detector.response(images)]

        def penalty() -> dict[str, Tensor]:
            weights = dict(trained(detector))
            with without_trace(detector):
                moved = drift(detector.response(images), then)
                gradients = torch.autograd.grad(moved, list(weights.values()), materialize_grads=True)
            return dict(zip(weights, gradients, strict=True))

        self.arrive(detector, penalty)


def trained(detector: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """The weights that training moves, by name."""
    return ((name, weight) for name, weight in detector.named_parameters() if weight.requires_grad)


def length(gradients) -> float:
    """Euclidean length of all of them as one vector."""
    return sum(gradient.double().square().sum().item() for gradient in gradients) ** 0.5


@contextmanager
def at(detector: nn.Module, weights: dict[str, Tensor]) -> Iterator[None]:
    """Within, the trained weights are those given."""
    here = {name: weight.detach().clone() for name, weight in trained(detector)}
    _put(detector, weights)
    try:
        yield
    finally:
        _put(detector, here)


@torch.no_grad()
def _put(detector: nn.Module, weights: dict[str, Tensor]) -> None:
    for name, weight in trained(detector):
        weight.copy_(weights[name])
