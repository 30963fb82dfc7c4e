"""Drift on one product: a stream option of any reader."""

import numpy as np
import pytest

from bench import data
from bench.data.listing import listing
from bench.errors import BadInput
from bench.schema.stream import Stream

SMALL = {"train": 3, "good": 2, "anomalous": 2}


def drifting(*levels: str, **drift) -> Stream:
    options = SMALL | {"drift": {"class": "gear"} | drift}
    return Stream("tests/drift", 1, "synthetic", tuple((name,) for name in levels), 64, options, "tests")


def images(stream: Stream, cache, column: int, *, train: bool = False) -> np.ndarray:
    arrays = data.load_arrays(stream, None, 64, cache)[0]
    return np.array(arrays.images[data.rows_of(arrays, [column], train=train)]).astype(int)


@pytest.mark.parametrize("kind", ["colour", "blur", "geometric"])
def test_every_level_has_the_same_images_further_from_where_they_were(kind, cache):
    plain = images(Stream("tests/gear", 1, "synthetic", (("gear",),), 64, SMALL, "tests"), cache, 0)
    stream = drifting(f"{kind}-1", f"{kind}-5", f"{kind}-10")
    far = [np.abs(images(stream, cache, column) - plain).mean() for column in range(3)]
    assert far[0] < far[1] < far[2]
    assert (far[0] == 0) == (kind == "blur")  # whose first level is no blur


def test_the_draw_is_fixed_and_the_mask_moves_with_the_image(cache):
    (first, *_), (again, *_) = (
        [item.reader.decode(item.sample, 64) for item in listing(drifting("geometric-10"), None) if item.sample.label]
        for _ in range(2)
    )
    assert np.array_equal(first[0], again[0]) and np.array_equal(first[1], again[1])
    still = next(item for item in listing(drifting("blur-1"), None) if item.sample.label)
    mask = still.reader.decode(still.sample, 64)[1]
    assert mask.any() and first[1].any() and not np.array_equal(mask, first[1])


def test_growing_changes_training_images_only_and_the_fingerprint(cache):
    own, growing = drifting("colour-9"), drifting("colour-9", growing=True)
    assert np.array_equal(images(own, cache, 0), images(growing, cache, 0))
    assert not np.array_equal(images(own, cache, 0, train=True), images(growing, cache, 0, train=True))
    assert data.load_arrays(own, None, 64, cache)[1] != data.load_arrays(growing, None, 64, cache)[1]


def test_what_is_no_level_and_no_drift_is_said(cache):
    with pytest.raises(BadInput, match="level 'colour-0' is not called like colour-1"):
        listing(drifting("colour-0"), None)
    with pytest.raises(BadInput, match="The option drift is"):
        listing(drifting("colour-1", speed=3), None)
