"""What is taken of what a method says of test images, and how much of it is in memory at once."""

import tracemalloc

import numpy as np
import pytest

from bench.data import Arrays
from bench.evaluation import AnswerError, CanaryError, Evaluation
from bench.schema.stream import Stream


def evaluation(folder, counts, side, *, save_maps=False) -> Evaluation:
    """Of a stream whose classes a, b, ... all come at once; every other image has a defect of 2 % of its pixels."""
    count, names = sum(counts), tuple("abc"[: len(counts)])
    labels = np.arange(count) % 2
    masks = np.zeros((count, side, side), bool)
    masks[labels == 1, : side // 7, : side // 7] = True
    images = np.memmap(folder / "images", np.uint8, "w+", shape=(count, side, side, 3))
    images[:, 0, 0, 0] = np.arange(count) % 256
    arrays = Arrays(images, masks, labels, np.repeat(np.arange(len(counts)), counts), np.zeros(count, bool))
    return Evaluation(Stream("toy/1", 1, "synthetic", (names,), side), arrays, save_maps=save_maps)


def says(answer):
    """A method that answers a batch of images with `answer(images)`."""
    return lambda batches, take, column: [take(answer(images)) for images in batches]


@pytest.mark.parametrize("save_maps", [False, True])
def test_it_holds_at_most_one_copy_and_a_half_of_the_maps_of_the_largest_class(tmp_path, save_maps):
    """All maps of all classes once lay there six times over."""
    counts, side, rng = (100, 300, 200), 64, np.random.default_rng(0)

    def noise(images):
        maps = rng.normal(size=(len(images), side, side)).astype(np.float32)
        return {"scores": maps.max((1, 2)), "maps": maps}

    whole = evaluation(tmp_path, counts, side, save_maps=save_maps)
    tracemalloc.start()  # counts arrays, and not the file in which the maps wait
    try:
        whole.enter(whole.show(says(noise), 0, range(3), told=False))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= 1.5 * max(counts) * side**2 * 4
    assert np.isfinite(whole.rows.pooled["pixel_auroc"]).all()


def test_scores_in_double_precision_stay_apart(tmp_path):
    """As float32 all would tie, and an AUROC of 1 would be .5."""
    one = evaluation(tmp_path, (20,), 8)
    one.enter(one.show(says(lambda images: {"scores": 1 + 1e-12 * (images[:, 0, 0, 0] % 2)}), 0, [0], told=False))
    assert one.rows.matrices["image_auroc"][0, 0] == 1


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"scores": lambda n: np.full(n, np.nan)}, r"the score of test image \d+ of a is NaN or infinite"),
        ({"maps": lambda n: np.full((n, 8, 8), np.inf)}, r"the map of test image \d+ of a is NaN or infinite"),
        (
            {"maps": lambda n: np.zeros((n, 3, 8, 8))},
            r"maps of test image \d+ of a: float32 \(20, 3, 8, 8\), where one",
        ),
        ({"scores": lambda n: np.zeros((n, 1))}, r"scores of test image \d+ of a: float32 \(20, 1\), where one"),
    ],
    ids=["NaN score", "infinite map", "three channels", "a column of scores"],
)
def test_what_is_no_score_and_no_map_is_told_by_class_and_image(tmp_path, wrong, told):
    """Nothing is said of batches, of which such an answer tells nothing, and no channel is chosen."""
    makers = {"scores": np.zeros, "maps": lambda n: np.zeros((n, 8, 8))} | wrong
    answer = says(lambda images: {name: make(len(images)).astype(np.float32) for name, make in makers.items()})
    with pytest.raises(AnswerError, match=told):
        evaluation(tmp_path, (20,), 8).show(answer, 0, [0], told=False)


def varied(folder, counts) -> Evaluation:
    """Of images that differ everywhere."""
    one = evaluation(folder, counts, 8)
    one.arrays.images[:] = np.random.default_rng(0).integers(0, 256, one.arrays.images.shape)
    return one


def brightness(images):
    return {"scores": images.mean((1, 2, 3), np.float32)}


@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize("counts", [(5,), (20, 30), (100, 80)])
def test_no_image_that_is_timed_was_shown_before(tmp_path, counts, told):
    """To be answered from memory: where they are few, they come again with single grey levels changed."""
    one, shown = varied(tmp_path, counts), []

    def remembers(images):
        shown.extend(images)
        return brightness(images)

    said = one.show(says(brightness), 0, range(len(counts)), told=told)
    one.show_again(says(remembers), said, told=told)
    found = one.time(says(remembers), said, told=told)
    assert set(found) == {"1", "32"} and min(found.values()) > 0
    assert len({image.tobytes() for image in shown}) == len(shown) >= 8 + 2 + 64 - 3
    known = one.arrays.images.astype(int).reshape(sum(counts), -1)
    far = [np.abs(known - image.reshape(-1)).max(1).min() for image in shown]
    assert set(far) <= {0, 1} and sum(each == 0 for each in far) >= min(counts)


@pytest.mark.parametrize("counts", [(5,), (40,), (200,)])
def test_an_answer_that_is_timed_is_held_to_the_one_that_counts(tmp_path, counts):
    one = varied(tmp_path, counts)
    said = one.show(says(brightness), 0, [0], told=False)
    with pytest.raises(CanaryError, match=r"scores (of most|moved)"):
        one.time(says(lambda images: {"scores": brightness(images)["scores"][::-1] + 9}), said, told=False)
