"""What trained weights are multiplied with: the input columns of linear and convolutional layers, as they run.

A layer's weight is a matrix W (out, in), and what it makes of an image is W X for some columns X (in, n): one per
token, or one per place of the kernel. A change of W that is orthogonal to X leaves the layer's output as it was.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

Sink = Callable[[str, Tensor], None]


class Recording(TorchFunctionMode):
    """Within, each time a weight of `detector` that is trained meets its input, `sink(name, X)` gets the columns.

    It looks at the calls and not at the layers, so padding done by a layer itself and functional use are seen as they
    are. A weight that is scaled or normalised before its use is not recognised.
    """

    def __init__(self, detector: nn.Module, sink: Sink):
        super().__init__()
        self.names = {id(weight): name for name, weight in detector.named_parameters() if weight.requires_grad}
        self.sink = sink

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in COLUMNS:
            weight = args[1] if len(args) > 1 else kwargs["weight"]
            name = self.names.get(id(weight))
            if name is not None:
                with torch.autocast(weight.device.type, enabled=False):  # an input may be bfloat16, the weight is not
                    self.sink(name, COLUMNS[func](*args, **kwargs).detach().to(weight.dtype))
        return func(*args, **kwargs)


def _linear(input: Tensor, weight: Tensor, bias=None) -> Tensor:
    return input.reshape(-1, input.shape[-1]).T


def _conv2d(input: Tensor, weight: Tensor, bias=None, stride=1, padding=0, dilation=1, groups=1) -> Tensor:
    kernel = weight.shape[-2:]
    if isinstance(padding, str):  # "same" puts the odd pixel after, "valid" none
        spare = [d * (k - 1) if padding == "same" else 0 for d, k in zip(_pair(dilation), kernel, strict=True)]
        input, padding = _pad(input, [(each // 2, each - each // 2) for each in spare]), 0
    patches = F.unfold(input, kernel, dilation, padding, stride)  # (B, C kh kw, places)
    return _joined(patches, groups)


def _conv_transpose2d(
    input: Tensor, weight: Tensor, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1
) -> Tensor:
    """A transposed convolution is the convolution of its input, zeros put between, with the kernel turned round."""
    kernel, (down, right) = weight.shape[-2:], _pair(stride)
    height, width = ((n - 1) * s + 1 for n, s in zip(input.shape[-2:], (down, right), strict=True))
    spread = input.new_zeros(*input.shape[:2], height, width)
    spread[..., ::down, ::right] = input
    margins = [d * (k - 1) - p for d, k, p in zip(_pair(dilation), kernel, _pair(padding), strict=True)]
    spread = _pad(spread, [(m, m + after) for m, after in zip(margins, _pair(output_padding), strict=True)])
    patches = F.unfold(spread, kernel, dilation)
    turned = patches.unflatten(1, (-1, *kernel)).flip(2, 3).flatten(1, 3)
    return _joined(turned, groups)


COLUMNS = {F.linear: _linear, F.conv2d: _conv2d, F.conv_transpose2d: _conv_transpose2d}


def _joined(patches: Tensor, groups: int) -> Tensor:
    """(B, groups · in, places) to (in, B · groups · places): the groups' inputs share one basis."""
    return patches.unflatten(1, (groups, -1)).movedim(2, 0).flatten(1)


def _pad(input: Tensor, margins: list[tuple[int, int]]) -> Tensor:
    (top, bottom), (left, right) = margins
    return F.pad(input, (left, right, top, bottom))  # negative margins cut


def _pair(value) -> tuple[int, int]:
    return tuple(value) * (2 // len(value)) if isinstance(value, tuple | list) else (value, value)


def transposed(detector: nn.Module) -> dict[str, int]:
    """The groups of each transposed convolution, by the name of its weight: those weights have their rows inside."""
    layers = detector.named_modules()
    return {f"{name}.weight": layer.groups for name, layer in layers if isinstance(layer, nn.ConvTranspose2d)}


def inside(change: Tensor, basis: Tensor, groups: int = 0) -> Tensor:
    """The component of a weight's change (any weight's shape) inside the span of `basis` (in, r), same shape.

    `groups`: those of a transposed convolution, whose weight is (in, out / groups, kh, kw); 0 for any other layer.
    """
    if not groups:
        rows = change.flatten(1)
        return (rows @ basis @ basis.T).view_as(change)
    blocks = change.unflatten(0, (groups, -1)).transpose(1, 2)  # (groups, out / groups, in / groups, kh, kw)
    rows = blocks.flatten(2)
    return (rows @ basis @ basis.T).view_as(blocks).transpose(1, 2).flatten(0, 1)
