"""What a method is given, as Avalanche has it: the experience of one step, and one of test images that come in turn."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from avalanche.benchmarks import benchmark_from_datasets
from avalanche.benchmarks.scenarios.dataset_scenario import DatasetExperience
from avalanche.benchmarks.utils import AvalancheDataset
from torch import Tensor
from torch.utils.data import Dataset


class NotGivenError(RuntimeError):
    """A method asked for what it is not given."""


class TrainImages(Dataset):
    """Images (N, S, S, 3) uint8 as `(image, mask, label, category)`: mask blank, label 0, category -1 if not told."""

    def __init__(self, images: np.ndarray, categories: np.ndarray | None):
        self.images, self.categories = torch.from_numpy(images), categories

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int):
        image = as_float(self.images[index])
        return image, _blank(image), 0, -1 if self.categories is None else int(self.categories[index])


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
    """Stands where an experience has its stream, which would lead to the other steps."""

    def __init__(self, name: str):
        self.name = name

    def _refuse(self, *_):
        raise NotGivenError(
            "the stream of an experience was looked into: a method knows neither the number nor the content of the "
            "steps and classes to come (capability `reads_ahead` excepted)."
        )

    __len__ = __iter__ = __getitem__ = __getattr__ = _refuse


def train_experience(given: Sequence[Dataset], step: int, *, ahead: bool = False) -> DatasetExperience:
    """The experience of `step`: of its images alone, or, given those of all steps (`ahead`), leading to the others."""
    if ahead:
        return benchmark_from_datasets(train=[AvalancheDataset([one]) for one in given]).train_stream[step]
    experience = DatasetExperience(dataset=AvalancheDataset([given[0]]), current_experience=step)
    experience.origin_stream = ClosedStream("train")
    return experience


class TestExperience(DatasetExperience):
    """Test images that come batch by batch, (B, S, S, 3) uint8: nobody can look at a later one first.

    `current_experience` is the class of all of them for a method that is told (capability `task_oracle`).
    """

    __test__ = False  # not a test case, whatever its name

    def __init__(self, batches: Iterable[np.ndarray], category: int | None):
        super().__init__(dataset=AvalancheDataset([]), current_experience=-1)
        self.batches, self.category = batches, category
        self.origin_stream = ClosedStream("test")

    @property
    def current_experience(self) -> int:
        if self.category is None:
            raise NotGivenError(
                "the class of the test images was asked for: it is not given at test (capability `task_oracle` "
                "excepted)."
            )
        return self.category

    @current_experience.setter
    def current_experience(self, value: int) -> None:
        pass  # Avalanche sets it; `category` is what it is

    def __iter__(self):
        """Batches as a loader of a data set gives them, with their truth left blank."""
        for images in self.batches:
            image = as_float(torch.from_numpy(images))
            blank = torch.full((len(image),), -1)
            yield image, torch.zeros((len(image), 1, *image.shape[-2:]), dtype=torch.bool), blank, blank
