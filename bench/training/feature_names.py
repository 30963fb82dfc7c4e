"""Names of frozen features: digests of everything that decides their bits."""

import hashlib
import platform
from functools import cache
from pathlib import Path
from weakref import WeakKeyDictionary

import timm
import torch
from torch import Tensor

from bench.training.backbone import Backbone
from bench.training.device import numerics, on_cpu
from bench.training.experiences import as_float

VERSION = 1  # raise it whenever the same network and image would give other features


class Names:
    """Names networks; a digest of weights is made once, and anew when the sum of their bits is another."""

    def __init__(self):
        self._known: WeakKeyDictionary[Backbone, tuple[tuple, str]] = WeakKeyDictionary()

    def home(self, network: Backbone, image: Tensor) -> str:
        """Folder of a network on the device and at the size in pixels of `image` (B, 3, H, W)."""
        tensors = dict((*network.named_parameters(), *network.named_buffers()))
        sums = []  # that hardly any change leaves as they were; version counters miss what is written by `.data`
        for tensor in tensors.values():
            flat = tensor.detach().contiguous().view(-1)
            words = flat.nbytes % 8 == 0 and flat.storage_offset() * flat.element_size() % 8 == 0
            sums.append(flat.view(torch.int64 if words else torch.uint8).sum())
        state = _machine(image.device), *torch.stack(sums).tolist()
        known = self._known.get(network)
        if known is None or known[0] != state:
            known = self._known[network] = state, _digest(network, tensors, state[0])
        return f"{known[1]}/{image.shape[-2]}x{image.shape[-1]}"


def pixels_of(image: Tensor) -> Tensor | None:
    """A batch (B, 3, H, W) of plain pictures as uint8 (B, H, W, 3); None for floats between the 256 steps.

    Those were made by something, and will hardly be seen again.
    """
    plain = image.dtype == torch.float32 and image.is_contiguous() and not torch.is_autocast_enabled(image.device.type)
    if not plain or not len(image):
        return None
    pixels = (image * 255).round().clamp(0, 255).to(torch.uint8).movedim(1, -1)
    return pixels.contiguous().cpu() if torch.equal(as_float(pixels), image) else None


def frozen(network: Backbone) -> bool:
    """Whether a network gives the same features for as long as nobody writes into its weights."""
    return not (network.net.training or any(weight.requires_grad for weight in network.parameters()))


def picture(pixels: Tensor) -> str:
    """Digest of one picture (H, W, 3) uint8."""
    return hashlib.sha256(pixels.numpy().tobytes()).hexdigest()[:32]


def _digest(network: Backbone, tensors: dict[str, Tensor], machine: tuple) -> str:
    spec = network.spec
    architecture = spec.name, sorted(spec.arguments.items()), network.layers
    made = hashlib.sha256(repr((VERSION, timm.__version__, architecture, machine)).encode())
    for name, tensor in tensors.items():  # with the mean and the spread of the normalisation
        made.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        made.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return made.hexdigest()[:32]


def _machine(device: torch.device) -> tuple:
    """What computes: another kind of processor, number of threads or library sums in another order."""
    if not on_cpu(device):
        return torch.__version__, *numerics(device)
    return torch.__version__, processor(), torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()


@cache
def processor() -> str:
    """Name of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
