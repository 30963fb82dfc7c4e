"""Bad data: each fault is one sentence that names the thing and the way out, before anything is decoded for good."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from trees import mask, picture, stream, tree, visa_tree, write_split

from bench.data import load_arrays
from bench.errors import BadInput

SCRATCH = "bolt/test/scratch/000.png"
HIDDEN = "bolt/ground_truth/scratch/000_mask.png"


def said(root, cache, *classes, reader="folder"):
    """The one sentence of a failed load."""
    with pytest.raises(BadInput) as raised:
        load_arrays(stream(*(classes or ("bolt", "nut")), reader=reader), root, 16, cache)
    text = str(raised.value)
    assert text.endswith(".")
    assert "\n" not in text
    return text


@pytest.fixture
def root(tmp_path):
    return tree(tmp_path / "data")


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def test_no_folder(cache, tmp_path):
    assert said(None, cache).startswith("No data folder was given: this needs --data DIR with <class>/train/good")
    assert said(tmp_path / "absent", cache).startswith(f"There is no folder {tmp_path / 'absent'}: this needs --data")
    (tmp_path / "file").write_text("")
    assert f"{tmp_path / 'file'} is a file, not a folder" in said(tmp_path / "file", cache)
    (tmp_path / "empty").mkdir()
    assert f"There are no folders in {tmp_path / 'empty'}" in said(tmp_path / "empty", cache)


def test_an_unreadable_folder(root, cache, monkeypatch):
    real = os.listdir

    def refused(folder):
        if Path(folder) == root / "nut" / "test":
            raise PermissionError(13, "Permission denied")
        return real(folder)

    monkeypatch.setattr(os, "listdir", refused)
    expected = f"The folder {root / 'nut' / 'test'} cannot be read (Permission denied): check its permissions."
    assert said(root, cache) == expected


@pytest.mark.parametrize("wrong", ["..", "bolt", "bolt/train", "bolt/train/good"])
def test_the_wrong_level_names_the_right_one(root, cache, wrong):
    place = (root / wrong).resolve()
    assert said(place, cache) == f"{place} is the wrong level of the data set: give {root} instead."


@pytest.mark.parametrize("wrong", ["..", "candle", "split_csv"])
def test_the_wrong_level_of_visa(tmp_path, cache, wrong):
    root = visa_tree(tmp_path / "up" / "visa")
    place = (root / wrong).resolve()
    wanted = f"{place} is the wrong level of the data set: give {root} instead."
    assert said(place, cache, "candle", reader="visa") == wanted


def test_an_absent_class_names_the_nearest_folder(root, cache):
    assert said(root, cache, "bolt", "nuts") == f"The class 'nuts' is not a folder in {root}: the nearest is 'nut'."
    assert said(root, cache, "bolt", "xyz", "q") == (
        f"The class 'xyz' is not a folder in {root}: it has bolt, nut (and 1 more problem in this data set)."
    )


@pytest.mark.parametrize(
    ("gone", "words"),
    [("train/good", "training"), ("train", "training"), ("test", "test")],
)
def test_a_class_that_lacks_images(root, cache, gone, words):
    shutil.rmtree(root / "nut" / gone)
    assert said(root, cache).startswith(f"Class 'nut' has no {words} images in {root}: this needs --data")


def test_all_gaps_are_counted(root, cache):
    for name in ("bolt", "nut"):
        shutil.rmtree(root / name / "test")
    assert said(root, cache).endswith("(and 1 more problem in this data set).")


@pytest.mark.parametrize("keep", [0, 20, 600])
@pytest.mark.parametrize("name", ["bolt/train/good/001.png", HIDDEN, SCRATCH])
def test_a_file_cut_short(root, cache, name, keep):
    if name == HIDDEN:
        mask(root / name, value=255)
        keep = keep // 10
    content = (root / name).read_bytes()
    assert len(content) > keep
    (root / name).write_bytes(content[:keep])
    text = said(root, cache)
    assert f"{root / name} is cut short or corrupt" in text
    assert text.endswith(": replace the file.")


def test_noise_is_no_image_and_every_fault_is_counted(root, cache):
    for name in ("bolt/train/good/001.png", "nut/test/good/000.png", "nut/train/good/000.png"):
        (root / name).write_bytes(b"no image at all")
    text = said(root, cache)
    assert "bolt/train/good/001.png is cut short or corrupt" in text.replace(os.sep, "/")
    assert text.endswith("replace the file (and 2 more problems in this data set).")
    assert not list(cache.glob("*px-v*/complete.json"))


def test_masks(root, cache):
    mask(root / HIDDEN, (25, 24))
    assert said(root, cache) == f"The mask {root / HIDDEN} is 25x24 and its image 24x24: they must be of one size."
    mask(root / HIDDEN, value=0)
    assert f"The mask {root / HIDDEN} is empty and its image counts as anomalous" in said(root, cache)
    (root / HIDDEN).unlink()
    assert said(root, cache) == f"The anomalous image {root / SCRATCH} has no mask: put it at {root / HIDDEN}."


def test_an_image_without_an_agreed_range(root, cache):
    (root / SCRATCH).unlink()
    path = root / "bolt" / "test" / "scratch" / "000.tif"
    Image.fromarray(np.zeros((24, 24), np.float32)).save(path)
    assert f"The image {path} cannot be turned into RGB (32-bit floats have no agreed range)" in said(root, cache)


def test_what_is_no_image_is_passed_over(root, cache):
    good = root / "bolt" / "train" / "good"
    (good / "notes.txt").write_text("hello")
    (good / "._000.png").write_bytes(b"macOS")
    (good / "more").mkdir()
    picture(root / "bolt" / "train" / "bad" / "000.png")
    arrays, _ = load_arrays(stream("bolt", "nut"), root, 16, cache)
    assert arrays.train.sum() == 6


def test_an_unknown_reader(root, cache):
    assert said(root, cache, reader="mvtek").startswith("no scenario 'mvtek'. Did you mean 'mvtec'? Known: folder, ")


def visa_said(root, cache, rows):
    full = [["candle", "train", "normal", "candle/Data/Images/Normal/000.JPG", ""], *rows]
    return said(write_split(root, full), cache, "candle", reader="visa")


ANOMALY = "candle/Data/Images/Anomaly/004.JPG"


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (
            ["candle", "train", "normal", "candle/none.JPG", ""],
            "There is no file {root}/candle/none.JPG",
        ),
        (["candle", "test", "anomaly", ANOMALY, "candle/none.png"], "There is no file {root}/candle/none.png"),
        (["candle", "val", "normal", ANOMALY, ""], f"The image {ANOMALY} has the split 'val'"),
        (["candle", "", "normal", ANOMALY, ""], f"The image {ANOMALY} has the split ''"),
        (["candle", "test", "odd", ANOMALY, ""], f"The image {ANOMALY} has the label 'odd'"),
        (["candle", "train", "anomaly", ANOMALY, ""], f"The anomalous image {ANOMALY} is in the split train"),
        (["candle", "test", "anomaly", ANOMALY, ""], f"The anomalous image {ANOMALY} has no mask"),
    ],
)
def test_a_bad_row_of_the_visa_split(tmp_path, cache, row, says):
    root = visa_tree(tmp_path / "visa")
    text = visa_said(root, cache, [row])
    assert says.format(root=root) in text
    assert str(root / "split_csv" / "1cls.csv") in text


def test_a_bad_visa_split(tmp_path, cache):
    root = visa_tree(tmp_path / "visa")
    assert "The class 'pcb2' is not in " in said(root, cache, "pcb2", reader="visa")
    assert "the nearest is 'pcb1'" in said(root, cache, "pcb2", reader="visa")
    split = root / "split_csv" / "1cls.csv"
    for content in ("", "a,b\n1,2\n", "object,split,label,image,mask\n"):
        split.write_text(content)
        assert f"The split file {split} has no rows with object, split" in said(root, cache, "pcb1", reader="visa")
    split.write_bytes(b"\xff\xfe\x00")
    assert f"The split file {split} cannot be read" in said(root, cache, "pcb1", reader="visa")
    split.unlink()
    assert f"There is no split_csv/1cls.csv in {root}" in said(root, cache, "pcb1", reader="visa")
