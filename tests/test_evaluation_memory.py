"""How much of a method's maps evaluation holds at once: they do not fit into memory all together."""

import tracemalloc

import numpy as np
import pytest

from bench.data import Arrays
from bench.evaluation import Evaluation
from bench.schema.stream import Stream

SIDE, COUNTS = 64, (100, 300, 200)  # images of a class; a batch of 32 is then a tenth of the largest


@pytest.fixture
def evaluation(tmp_path, request):
    """Of a stream whose classes all come at once; one image of two has a defect of 2 % of its pixels."""
    count, names = sum(COUNTS), tuple("abc")
    labels = np.arange(count) % 2
    masks = np.zeros((count, SIDE, SIDE), bool)
    masks[labels == 1, :9, :9] = True
    images = np.memmap(tmp_path / "images", np.uint8, "w+", shape=(count, SIDE, SIDE, 3))
    arrays = Arrays(images, masks, labels, np.repeat(np.arange(3), COUNTS), np.zeros(count, bool))
    return Evaluation(Stream("toy/1", 1, "synthetic", (names,), SIDE), arrays, save_maps=request.param)


@pytest.mark.parametrize("evaluation", [False, True], ids=["plain", "with saved maps"], indirect=True)
def test_it_is_at_most_one_copy_and_a_half_of_the_largest_class(evaluation):
    rng = np.random.default_rng(0)

    def look(batches, take, column):
        for images in batches:
            maps = rng.normal(size=(len(images), SIDE, SIDE)).astype(np.float32)
            take({"scores": maps.max((1, 2)), "maps": maps})

    tracemalloc.start()  # counts arrays, and not the file in which the maps wait
    try:
        said = evaluation.show(look, 0, range(3), told=False)
        evaluation.enter(said)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= 1.5 * max(COUNTS) * SIDE**2 * 4
    assert np.isfinite(evaluation.rows.pooled["pixel_auroc"]).all()
