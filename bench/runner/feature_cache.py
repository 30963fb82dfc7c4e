"""Features of frozen networks, kept on disk over methods, seeds and steps: `bench run --feature-cache GB`.

A name on the shelf is made of the network (weights, architecture, layers, where and how it is computed), of the pixels
of one image and of the number of images in its batch. Who asks must hold the image: nothing can be got out without it.
The batch counts because libraries choose a convolution's kernel by its shape, and kernels differ in their last bits;
which other images are in the batch, and where, does not change them. That is checked whenever a batch is computed of
which an image is known; a network that fails (another order of its sums) is not cached any more.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from weakref import WeakKeyDictionary

import timm
import torch
from torch import Tensor

from bench.backbone import Backbone, Maps, Recall
from bench.benchmark import as_float
from bench.runner import sentry
from bench.runner.environment import processor
from bench.shelf import Shelf

VERSION = 1  # raise it whenever the same network and image would give other features
FOLDER = "features"  # in the folder of decoded images


class FeatureCache:
    """Answers for frozen networks from files in `folder`, at most `limit` bytes; counts images found and computed."""

    def __init__(self, folder: Path, limit: float):
        self.shelf = Shelf(folder, limit)
        self.hits = self.misses = 0  # images, since the last `lap`
        self.paused = False
        self._unsteady: set[str] = set()
        self._names: WeakKeyDictionary[Backbone, tuple[tuple, str]] = WeakKeyDictionary()

    @property
    def recall(self) -> Recall | None:
        """What a network is given: a function, for a method may look into all that it can reach. None at limit 0."""
        if not self.shelf.limit:
            return None
        return lambda network, image: self.maps(network, image)

    def lap(self) -> tuple[int, int]:
        """Return the images found and computed so far, and count from zero."""
        counted, self.hits, self.misses = (self.hits, self.misses), 0, 0
        return counted

    @contextmanager
    def off(self) -> Iterator[None]:
        """Compute everything meanwhile, e.g. where time is taken."""
        self.paused = True
        try:
            yield
        finally:
            self.paused = False

    def maps(self, network: Backbone, image: Tensor) -> Maps:
        """What `network.compute(image)` returns, to the last bit, computed or found."""
        pixels = None if self.paused or not _frozen(network) else _pixels(image)
        if pixels is None:
            return network.compute(image)
        home = self._name(network, image.device)
        names = [f"{home}/{_digest(one, len(pixels))}" for one in pixels]
        with sentry.opened():
            steady = self._steady(home)
            found = [self.shelf.read(name) if steady else None for name in names]
        if all(found):
            self.hits += len(found)
            stacked = {key: torch.stack([one[key] for one in found]).to(image.device) for key in found[0]}
            return OrderedDict((layer, stacked[layer]) for layer in network.layers)  # sums over layers have an order
        self.misses += len(found)
        maps = network.compute(image)
        if steady and all(part.is_contiguous() for part in maps.values()):
            with sentry.opened():
                self._keep(home, names, found, maps)
        return maps

    def _keep(self, home: str, names: list[str], found: list[Maps | None], maps: Maps) -> None:
        """Put on the shelf what was not found there; what was must be the same."""
        for index, (name, old) in enumerate(zip(names, found, strict=True)):
            new = {key: part[index].cpu() for key, part in maps.items()}
            if old is None:
                self.shelf.write(name, new)
            elif not all(torch.equal(old[key], new[key]) for key in new):
                self._unsteady.add(home)
                with suppress(OSError):
                    self._mark(home).touch()
                return

    def _steady(self, home: str) -> bool:
        return not (home in self._unsteady or self._mark(home).exists())

    def _mark(self, home: str) -> Path:
        """Tells other processes that a network's features depend on the arrangement of a batch."""
        return self.shelf.folder / home / "unsteady"

    def _name(self, network: Backbone, device: torch.device) -> str:
        """The network's digest, made anew whenever one of its tensors was replaced or written to."""
        tensors = dict((*network.named_parameters(), *network.named_buffers()))
        state = tuple((tensor.data_ptr(), tensor._version) for tensor in tensors.values())
        known = self._names.get(network)
        if known is None or known[0] != state:
            known = self._names[network] = state, _network(network, tensors, device)
        return known[1]


def _frozen(network: Backbone) -> bool:
    return not (network.net.training or any(weight.requires_grad for weight in network.parameters()))


def _pixels(image: Tensor) -> Tensor | None:
    """A batch (B, 3, H, W) of plain pictures as uint8; None for floats between the 256 steps, which something made."""
    plain = image.dtype == torch.float32 and image.is_contiguous() and not torch.is_autocast_enabled(image.device.type)
    if not plain or not len(image):
        return None
    pixels = (image * 255).round().clamp(0, 255).to(torch.uint8).movedim(1, -1)
    return pixels.contiguous().cpu() if torch.equal(as_float(pixels), image) else None


def _digest(pixels: Tensor, batch: int) -> str:
    return hashlib.sha256(f"{batch} {tuple(pixels.shape)} ".encode() + pixels.numpy().tobytes()).hexdigest()[:32]


def _network(network: Backbone, tensors: dict[str, Tensor], device: torch.device) -> str:
    """Digest of all that decides the bits of its features, beside the image and the size of the batch."""
    spec = network.spec
    made = hashlib.sha256(
        repr((VERSION, timm.__version__, spec.name, sorted(spec.arguments.items()), network.layers)).encode()
    )
    made.update(repr(_machine(device)).encode())
    for name, tensor in tensors.items():
        made.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        made.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return made.hexdigest()[:32]


def _machine(device: torch.device) -> tuple:
    """What computes: another kind of processor, number of threads or library sums in another order."""
    if device.type == "cuda":
        precision = (
            torch.backends.cudnn.allow_tf32,
            torch.backends.cudnn.version(),
            torch.get_float32_matmul_precision(),
        )
        return torch.__version__, torch.cuda.get_device_name(device), *precision
    return torch.__version__, processor(), torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()
