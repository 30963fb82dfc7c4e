"""What a method trains: a network with a loss on normal images and a prediction on any image."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from bench.training.batch import Prediction


class Detector(nn.Module, ABC):
    """The contract between a detector and the strategy that trains it, in the order of use within one step.

    `prepare(images)`, then per batch `loss(image)` (+ backward and a step of `optimizer()` where it has a graph),
    then `consolidate(images)`; afterwards `predict(image)`. Images are (B, 3, H, W) floats in 0..1;
    normalising is the detector's own business. `images` iterates over all training batches of the step.
    """

    epochs: int = 1  # passes over the images of a step
    batch_size: int = 16  # images per training batch
    drop_last: bool = False  # a last batch that is not full is left out, wherever there is a full one
    loss_adds_up: bool = False  # over the images of a batch; else it is their mean

    def prepare(self, images: Iterable[Tensor]) -> None:
        """Look at the images of a step before its first batch (statistics, centroids); most detectors need not."""

    def optimizer(self) -> Optimizer | None:
        """Return a fresh optimizer for one step, or None if nothing is learned by gradient."""
        return None

    def scheduler(self, optimizer: Optimizer, iterations: int) -> LRScheduler | None:
        """Return a learning-rate schedule stepped once per batch, `iterations` batches long; None keeps the rate."""
        return None

    @abstractmethod
    def loss(self, image: Tensor) -> Tensor:
        """Return a scalar to minimise; without a graph, the images were stored for `consolidate`."""

    def response(self, image: Tensor) -> Sequence[Tensor]:
        """Return what the trained part makes of (B, 3, H, W), each (B, ...): what distillation holds on to."""
        raise TypeError(
            f"{type(self).__name__} has no response to distil; a detector with the trait `gradient` needs one"
        )

    def reconstruct(self, image: Tensor) -> Tensor | None:
        """Return images (B, 3, H, W) in 0..1 as the detector restores them; None if it does not work that way."""
        return None

    def replay_forward(self, image: Tensor) -> None:
        """Send (B, 3, H, W) through all trained layers, as training and testing do, for who records their inputs.

        The loss does so for most; a detector that predicts otherwise than it trains (sampling) runs that instead.
        """
        with torch.enable_grad():  # a loss may hook into its graph, which is let go at once
            self.loss(image)

    def networks(self) -> Sequence[nn.Module]:
        """Return what may compute in bfloat16 (trait `bfloat16`): modules with weights that are called as such."""
        groups = (child if isinstance(child, nn.ModuleList) else [child] for child in self.children())
        return [part for group in groups for part in group if next(part.parameters(), None) is not None]

    def consolidate(self, images: Iterable[Tensor]) -> None:
        """Turn what the step has shown into knowledge after its last batch; gradient-trained detectors need not."""

    @abstractmethod
    def predict(self, image: Tensor) -> Prediction:
        """Score (B, 3, H, W): each image on its own, whatever else is in the batch, and the same each time."""

    def raw_error(self, image: Tensor) -> Tensor | None:
        """How badly (B, 3, H, W) are made again with no help from themselves: (B,), lower is better.

        For detectors that guide a reconstruction by the image at hand, which can hide what the network has forgotten.
        None where there is no such thing.
        """
        return None

    def load_state_dict(self, state_dict, strict: bool = True, assign: bool = False):
        """Load a state; buffers that grow with the stream (memory banks) take the size that was saved."""
        for name, value in self.named_buffers():
            if name in state_dict and state_dict[name].shape != value.shape:
                owner, _, leaf = name.rpartition(".")
                self.get_submodule(owner).register_buffer(leaf, torch.empty_like(state_dict[name], device=value.device))
        return super().load_state_dict(state_dict, strict=strict, assign=assign)


def freeze(module: nn.Module) -> nn.Module:
    """Keep a backbone as it is: no gradients, and no way back to train mode for its batch norms."""
    module.requires_grad_(False).eval()
    module.train = lambda mode=True: module
    return module


def trainable(module: nn.Module) -> list[nn.Parameter]:
    """The parameters that an optimizer may move."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def clip(optimizer: Optimizer, norm: float) -> Optimizer:
    """Cut the gradient, over all parameters of `optimizer`, to at most `norm` before each of its steps."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def cut(*_) -> None:  # to ask anything of the norm would wait for a GPU at every batch
        nn.utils.clip_grad_norm_(parameters, norm)

    optimizer.register_step_pre_hook(cut)
    return optimizer


def smooth(anomaly_map: Tensor, sigma: float) -> Tensor:
    """Blur maps (B, 1, H, W) with a Gaussian of `sigma` px, cut at four sigma as in anomalib; borders are reflected.

    Rows and columns one after the other, each as a product with a band matrix: on a CPU some thirteen times faster
    than a convolution with the square kernel.
    """
    device = anomaly_map.device
    for _ in range(2):
        width = anomaly_map.shape[-1]
        reach = min(int(4 * sigma + 0.5), width - 1)  # what is reflected is no wider than the map
        kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=device) / sigma) ** 2)
        band = torch.zeros(width, width + 2 * reach, device=device)
        place = torch.arange(width, device=device)[:, None] + torch.arange(len(kernel), device=device)
        band.scatter_(1, place, (kernel / kernel.sum()).expand(width, -1))
        padded = F.pad(anomaly_map, (reach, reach, 0, 0), mode="reflect")
        anomaly_map = (padded @ band.to(anomaly_map.dtype).T).transpose(-1, -2)
    return anomaly_map
