"""All experiences of a stream, as the bench gives them one at a time, for tests that train without it."""

from types import SimpleNamespace

import numpy as np
import torch

from bench.data import Arrays, rows_of
from bench.schema.stream import Stream
from bench.training.experiences import TestExperience, TrainImages, train_experience


def experiences(stream: Stream, arrays: Arrays, *, labels: bool = False, ahead: bool = False) -> SimpleNamespace:
    """`train_stream`, one per step, and `test_stream`, one per class, each with its class told."""
    column = {name: index for index, name in enumerate(stream.classes)}
    sets = []
    for step in stream.steps:
        rows = rows_of(arrays, [column[name] for name in step], train=True)
        sets.append(TrainImages(np.array(arrays.images[rows]), arrays.categories[rows] if labels else None))
    train = [train_experience(sets if ahead else [one], t) for t, one in enumerate(sets)]
    return SimpleNamespace(train_stream=train, test_stream=[tests(arrays, [c], c) for c in range(len(column))])


def tests(arrays: Arrays, columns: list[int], category: int | None = None) -> TestExperience:
    """The test images of classes, in batches of 32."""
    images = np.array(arrays.images[rows_of(arrays, columns, train=False)])
    return TestExperience([images[at : at + 32] for at in range(0, len(images), 32)], category)


tests.__test__ = False


def held_bytes(state: object) -> int:
    """Bytes of everything numeric or textual in a nested state, its structure left out."""
    if isinstance(state, torch.Tensor | np.ndarray):
        return state.nbytes
    if isinstance(state, bytes | str):
        return len(state)
    if isinstance(state, dict):
        return sum(held_bytes(value) for value in state.values())
    if isinstance(state, list | tuple | set):
        return sum(held_bytes(value) for value in state)
    return 8 if isinstance(state, int | float) and not isinstance(state, bool) else 0
