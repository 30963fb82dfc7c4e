"""The embedded stream: what is drawn, how exact its masks are, and that nothing trivial gives the defects away."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from bench.errors import BadInput
from bench.schema import stream
from scenarios import synthetic
from scenarios.synthetic._defects import KINDS
from scenarios.synthetic._render import CLASSES, Key, render

EVERY = [(name, kind) for name in CLASSES for kind in KINDS]


def key(category="wood", kind="scratch", index=0, **other) -> Key:
    return replace(Key(category, "test", kind, index, 0, 0.5), **other)


@pytest.mark.parametrize("category", CLASSES)
def test_drawing_twice_gives_the_same_pixels_and_another_seed_or_index_others(category):
    first, again = render(key(category), 64), render(key(category), 64)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    for other in (key(category, seed=1), key(category, index=1), key(category, split="train", kind="good")):
        assert not np.array_equal(first[0], render(other, 64)[0])


def test_an_image_does_not_depend_on_how_many_others_are_drawn():
    few = synthetic.samples(None, ["gear"], {"train": 2, "good": 3, "anomalous": 7})
    many = synthetic.samples(None, ["wood", "gear"], {"train": 5, "good": 4, "anomalous": 20})
    assert set(few) < set(many)


@pytest.mark.parametrize(("category", "kind"), EVERY)
def test_image_and_defect_free_twin_agree_outside_the_mask_and_differ_inside(category, kind):
    visible = []
    for index in range(6):
        image, twin, mask = render(key(category, kind, index), 64)
        differs = (image != twin).any(axis=2)
        assert not (differs & ~mask).any()
        assert 0 < mask.mean() < 0.2
        visible.append(differs[mask].mean())
    assert np.mean(visible) > 0.75


def test_a_good_image_is_its_own_twin():
    image, twin, mask = render(key(kind="good"), 48)
    assert np.array_equal(image, twin)
    assert not mask.any()


def test_every_kind_of_defect_is_present_and_labelled():
    found = synthetic.samples(None, list(CLASSES), {})
    assert len(CLASSES) >= 6
    assert len(KINDS) >= 5
    for category in CLASSES:
        bad = [sample for sample in found if sample.category == category and sample.label]
        assert {sample.kind for sample in bad} == set(KINDS)
        assert all(sample.split == "test" for sample in bad)
    assert len({sample.image for sample in found}) == len(found)


def test_a_key_says_everything():
    written = key("tile", "blob", 17, seed=3, difficulty=0.25)
    assert Key.parse(str(written)) == written


@pytest.mark.parametrize("size", [33, 64, 256])
def test_any_resolution_shows_the_same_scene(size):
    sample = synthetic.samples(None, ["board"], {"train": 1, "good": 0, "anomalous": 0})[0]
    image, mask = synthetic.decode(sample, size)
    assert image.shape == (size, size, 3)
    assert image.dtype == np.uint8
    assert mask.shape == (size, size)
    assert mask.dtype == bool
    whole = np.stack([piece.mean(axis=(0, 1)) for piece in np.array_split(image.astype(float), 3, axis=1)])
    finest, _ = synthetic.decode(sample, 192)
    expected = np.stack([piece.mean(axis=(0, 1)) for piece in np.array_split(finest.astype(float), 3, axis=1)])
    assert np.abs(whole - expected).max() < 2.5


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"good": 120, "anomalous": 120}, stream.load_stream("synthetic/1x6").options])
@pytest.mark.parametrize("category", CLASSES)
def test_brightness_and_contrast_of_an_image_do_not_tell_its_label(category, options):
    found = [sample for sample in synthetic.samples(None, [category], options) if sample.split == "test"]
    grey = np.stack([synthetic.decode(sample, 32)[0].mean(axis=2) for sample in found])
    labels = [sample.label for sample in found]
    for statistic in (grey.mean(axis=(1, 2)), grey.std(axis=(1, 2))):
        assert 0.35 < roc_auc_score(labels, statistic) < 0.65


def test_harder_defects_are_fainter():
    def contrast(difficulty: float) -> float:
        which = product(CLASSES, ("scratch", "blob"), range(3))
        drawn = [render(key(*one, difficulty=difficulty), 64) for one in which]
        return np.mean([np.abs(image[mask].astype(float) - twin[mask]).mean() for image, twin, mask in drawn])

    assert contrast(0.0) > 1.5 * contrast(0.5) > 2.2 * contrast(0.8)


@pytest.mark.parametrize("name", ["synthetic/1x6", "synthetic/3x2", "synthetic/4-1x2"])
def test_shipped_streams_are_readable_and_hold_every_class(name):
    one = stream.load_stream(name)
    assert (one.reader, one.image_size) == ("synthetic", 64)
    assert set(one.classes) == set(CLASSES)
    assert len(synthetic.samples(None, one.classes, one.options)) == 6 * (48 + 24 + 24)


@pytest.mark.parametrize(
    ("categories", "options", "named"),
    [
        (["brick"], {}, "'brick'"),
        (["wood"], {"hardness": 1}, "'hardness'"),
        (["wood"], {"difficulty": 2}, "difficulty=2"),
        (["wood"], {"train": -1}, "train=-1"),
        (["wood"], {"good": "many"}, "good='many'"),
    ],
)
def test_bad_input_is_named(categories, options, named):
    with pytest.raises(BadInput, match=named):
        synthetic.samples(None, categories, options)
