"""An Avalanche benchmark over cached arrays, with a gate that lets a method read only what it may see.

What a method holds (experiences, data sets) leads neither to the arrays, nor to the gate, nor to other steps: the
functions below close over them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from avalanche.benchmarks import CLScenario, benchmark_from_datasets
from avalanche.benchmarks.scenarios.dataset_scenario import DatasetExperience
from avalanche.benchmarks.utils import AvalancheDataset
from torch import Tensor
from torch.utils.data import Dataset

from bench.data import Arrays, rows_of
from bench.schema.stream import Stream


class LeakError(RuntimeError):
    """A method read what it must not see; the cell fails."""


@dataclass
class Gate:
    """What may be read now: training images of the steps in `open_steps`, test images only while `testing`."""

    open_steps: range = range(0)
    testing: bool = False


class Items(Dataset):
    """Images as `(image, mask, label, category)`; the mask is blank: training images have none, test ones hide it."""

    def __init__(self, count: int, item: Callable[[int], tuple[Tensor, int, int]]):
        self._count, self._item = count, item

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int):
        image, label, category = self._item(index)
        return image, _blank(image), label, category


def train_images(arrays: Arrays, rows, step: int, gate: Gate, labels: bool) -> AvalancheDataset:
    """Normal images of one step, label 0; `category` is -1 unless the method declares that it uses class labels."""

    def item(index: int) -> tuple[Tensor, int, int]:
        if step not in gate.open_steps:
            raise LeakError(
                f"training images of step {step} were read while {_open(gate)}: a method may read only "
                "the step it is given, and must carry what it wants to keep (capability `reads_ahead` excepted)."
            )
        return _image(arrays, rows[index]), 0, int(arrays.categories[rows[index]]) if labels else -1

    return AvalancheDataset([Items(len(rows), item)])


def test_images(arrays: Arrays, rows, gate: Gate) -> AvalancheDataset:
    """Test images without their truth: label and category -1; the evaluation has the truth."""

    def item(index: int) -> tuple[Tensor, int, int]:
        if not gate.testing:
            raise LeakError(f"a test image was read while {_open(gate)}: nothing of the test set may reach training.")
        return _image(arrays, rows[index]), -1, -1

    return AvalancheDataset([Items(len(rows), item)])


test_images.__test__ = False  # not a test case, whatever its name


def _image(arrays: Arrays, row: int) -> Tensor:
    return as_float(torch.from_numpy(np.array(arrays.images[row])))


def _open(gate: Gate) -> str:
    return "testing" if gate.testing else f"training on step {max(gate.open_steps, default='none')}"


def _blank(image: Tensor) -> Tensor:
    return torch.zeros((1, *image.shape[-2:]), dtype=torch.bool)


def as_float(image: Tensor) -> Tensor:
    """(..., H, W, 3) uint8 -> (..., 3, H, W) float in 0..1."""
    return image.movedim(-1, -3).contiguous().float().div_(255)


class KeptImages(Dataset):
    """Images that a method stored or made, as training data: normal, of no known class."""

    def __init__(self, images: Tensor):
        self.images = images  # (N, 3, H, W) uint8, or float in 0..1

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int):
        image = self.images[index]
        image = image.float().div(255) if image.dtype == torch.uint8 else image.float()
        return image, _blank(image), 0, -1


def normal_images(images: Tensor) -> AvalancheDataset:
    """Wrap (N, 3, H, W) images, uint8 or float in 0..1, as an Avalanche data set of normal training items."""
    return AvalancheDataset([KeptImages(images.cpu())])


class ClosedStream:
    """Stands where an experience has its stream, which would tell how many steps and classes there are, and which."""

    def __init__(self, name: str):
        self.name = name

    def _refuse(self, *_):
        raise LeakError(
            "the stream of an experience was looked into: a method knows neither the number nor the content of the "
            "steps and classes to come (capability `reads_ahead` excepted)."
        )

    __len__ = __iter__ = __getitem__ = __getattr__ = _refuse


def benchmark(stream: Stream, arrays: Arrays, *, labels: bool = False, ahead: bool = False) -> tuple[CLScenario, Gate]:
    """Build one training experience per step and one test experience per class (in the order of `stream.classes`).

    An experience leads to the others of its stream only for a method that reads `ahead`.
    """
    gate = Gate()
    column = {name: index for index, name in enumerate(stream.classes)}
    train = [
        train_images(arrays, rows_of(arrays, [column[name] for name in step], train=True), t, gate, labels)
        for t, step in enumerate(stream.steps)
    ]
    test = [test_images(arrays, rows_of(arrays, [c], train=False), gate) for c in range(len(column))]
    made = benchmark_from_datasets(train=train, test=test)
    for name, closed in (("train", not ahead), ("test", True)):
        for experience in made.streams[name] if closed else ():
            experience.origin_stream = ClosedStream(name)
    return made, gate


class MixedExperience(DatasetExperience):
    """Test images of many classes; which class comes when is nothing to be asked for."""

    @property
    def current_experience(self) -> int:
        raise LeakError(
            "the class of the test images was asked for: it is not given at test (capability `task_oracle` excepted)."
        )


def mixed(arrays: Arrays, columns: Sequence[int], gate: Gate, seed: int) -> tuple[MixedExperience, np.ndarray]:
    """One test experience over all images of the classes `columns`, shuffled, and the rows of `arrays` in its order.

    A method that is not told the class at test sees neither where one class ends nor how many there are.
    """
    rows = np.random.default_rng(seed).permutation(rows_of(arrays, list(columns), train=False))
    experience = MixedExperience(dataset=test_images(arrays, rows, gate))
    experience.origin_stream = ClosedStream("test")
    return experience, rows
