"""Readers: VisA, streams over two data sets, and what an MVTec-like tree may look like."""

import numpy as np
import pytest
from PIL import Image
from trees import stream, tree, visa_tree

from bench.data import load_arrays
from bench.errors import BadInput
from bench.schema.stream import reorder


@pytest.fixture
def root(tmp_path):
    return tree(tmp_path / "data")


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def test_visa(tmp_path, cache):
    root = visa_tree(tmp_path / "visa")
    arrays, identity = load_arrays(stream("pcb1", "candle", reader="visa"), root, 16, cache)
    assert arrays.train.sum() == 6
    assert arrays.labels.sum() == 2
    assert (arrays.masks.any(axis=(1, 2)) == (arrays.labels == 1)).all()  # masks of 0 and 1
    (root / "split_csv" / "1cls.csv").rename(root / "1cls.csv")
    assert load_arrays(stream("pcb1", "candle", reader="visa"), root, 16, cache)[1] == identity


def test_a_stream_over_two_data_sets(tmp_path, cache):
    tree(tmp_path / "both" / "MVTec_AD", ("bottle",))
    visa_tree(tmp_path / "both" / "visa")
    crossed = stream("mvtec:bottle", "visa:pcb1", reader="mvtec+visa")
    arrays, _ = load_arrays(crossed, tmp_path / "both", 16, cache)
    assert np.bincount(arrays.categories).tolist() == [7, 5]
    with pytest.raises(BadInput, match=r"no folder 'mvtec' in .*put or link them there as mvtec and visa"):
        load_arrays(crossed, tmp_path / "both" / "visa", 16, cache)


def test_train_limit(root, cache):
    arrays, _ = load_arrays(stream("bolt", "nut", train_limit=2), root, 16, cache)
    assert arrays.train.sum() == 4
    assert (~arrays.train).sum() == 8
    for options in ({"train_limit": 0}, {"trian_limit": 2}):
        with pytest.raises(BadInput, match="train_limit"):
            load_arrays(stream("bolt", "nut", **options), root, 16, cache)


@pytest.mark.parametrize("suffix", [".PNG", ".jpg", ".JPEG", ".bmp", ".tif", ".TIFF", ".webp"])
def test_every_suffix_and_mask_names_without_mask(tmp_path, cache, suffix):
    root = tree(tmp_path / "data", ("bolt",))
    for path in list((root / "bolt").rglob("*.png")):
        picture_ = Image.open(path)
        picture_.load()
        path.unlink()
        is_mask = "ground_truth" in path.parts
        target = path.with_name(path.stem.removesuffix("_mask") + (".bmp" if is_mask else suffix))
        picture_.save(target)
    (root / "bolt" / "train" / "good").rename(root / "bolt" / "train" / "OK")
    (root / "bolt" / "test" / "good").rename(root / "bolt" / "test" / "normal")
    arrays, _ = load_arrays(stream("bolt"), root, 16, cache)
    assert arrays.train.sum() == 3
    assert arrays.labels.sum() == 2


def test_the_synthetic_stream(cache):
    small = stream("gear", "wood", reader="synthetic", train=2, good=1, anomalous=2)
    arrays, identity = load_arrays(small, None, 32, cache)
    assert len(arrays.images) == 10
    assert (arrays.masks.any(axis=(1, 2)) == (arrays.labels == 1)).all()
    assert load_arrays(reorder(small, "reversed"), None, 32, cache)[1] == identity


def test_a_reader_in_a_file_of_ones_own(root, cache, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from scenarios import folder\n\nNEEDS = '--data DIR'\n\n"
        "def samples(root, categories, options):\n    return folder.samples(root, categories, options)\n"
    )
    arrays, _ = load_arrays(stream("bolt", reader="mine"), root, 16, cache, plugins=[path])
    assert len(arrays.images) == 7
