"""An Avalanche benchmark over cached arrays, with a gate that lets a method read only what it may see."""

from dataclasses import dataclass

import numpy as np
import torch
from avalanche.benchmarks import CLScenario, benchmark_from_datasets
from avalanche.benchmarks.utils import AvalancheDataset
from torch import Tensor
from torch.utils.data import Dataset

from bench.data import Arrays
from bench.stream import Stream


class LeakError(RuntimeError):
    """A method read what it must not see; the cell fails."""


@dataclass
class Gate:
    """What may be read now: training images of the steps in `open_steps`, test images only while `testing`."""

    open_steps: range = range(0)
    testing: bool = False


class TrainImages(Dataset):
    """Normal images of one step as `(image, mask, label, category)`; mask and label are blank by nature.

    `category` is -1 unless the method declares that it uses class labels in training.
    """

    def __init__(self, arrays: Arrays, rows, step: int, gate: Gate, labels: bool):
        self.arrays, self.rows, self.step, self.gate, self.labels = arrays, rows, step, gate, labels

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int):
        if self.step not in self.gate.open_steps:
            raise LeakError(
                f"training images of step {self.step} were read while {_open(self.gate)}: a method may read only "
                "the step it is given, and must carry what it wants to keep (capability `reads_ahead` excepted)."
            )
        row = self.rows[index]
        image = as_float(torch.from_numpy(self.arrays.images[row].copy()))
        return image, _blank(image), 0, int(self.arrays.categories[row]) if self.labels else -1


class TestImages(Dataset):
    """Test images of one class without their truth: mask blank, label and category -1; the evaluator has the truth."""

    __test__ = False  # not a test case, whatever its name

    def __init__(self, arrays: Arrays, rows, gate: Gate):
        self.arrays, self.rows, self.gate = arrays, rows, gate

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int):
        if not self.gate.testing:
            raise LeakError(
                f"a test image was read while {_open(self.gate)}: nothing of the test set may reach training."
            )
        image = as_float(torch.from_numpy(self.arrays.images[self.rows[index]].copy()))
        return image, _blank(image), -1, -1


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


def rows_of(arrays: Arrays, columns: list[int], *, train: bool) -> np.ndarray:
    """Rows of `arrays` that belong to the classes `columns`, of the training or of the test set."""
    return np.flatnonzero(np.isin(arrays.categories, columns) & (np.asarray(arrays.train) == train))


def benchmark(stream: Stream, arrays: Arrays, *, labels: bool = False) -> tuple[CLScenario, Gate]:
    """Build one training experience per step and one test experience per class (in the order of `stream.classes`)."""
    gate = Gate()
    column = {name: index for index, name in enumerate(stream.classes)}
    train = [
        AvalancheDataset(
            [TrainImages(arrays, rows_of(arrays, [column[name] for name in step], train=True), t, gate, labels)]
        )
        for t, step in enumerate(stream.steps)
    ]
    test = [AvalancheDataset([TestImages(arrays, rows_of(arrays, [c], train=False), gate)]) for c in range(len(column))]
    return benchmark_from_datasets(train=train, test=test), gate
