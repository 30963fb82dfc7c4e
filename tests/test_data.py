"""Loading: what is in the arrays, the cache and the fingerprint, and what the readers accept."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from trees import picture, stream, touch_byte, tree

from bench.data import Sample, load_arrays
from bench.data.fingerprint import read_json
from bench.errors import BadInput
from bench.schema.stream import reorder

LOADER = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from trees import stream
from bench.data import load_arrays
def progress(done, total):
    {progress}
load_arrays(stream("bolt", "nut"), Path({root!r}), 16, Path({cache!r}), progress)
"""


def process(root, cache, progress):
    tests = str(Path(__file__).parent)
    code = LOADER.format(tests=tests, root=str(root), cache=str(cache), progress=progress)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


@pytest.fixture
def root(tmp_path):
    return tree(tmp_path / "data")


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def test_arrays(root, cache):
    arrays, identity = load_arrays(stream("nut", "bolt"), root, 16, cache)
    assert arrays.images.shape == (14, 16, 16, 3)
    assert arrays.images.dtype == np.uint8
    assert arrays.masks.shape == (14, 16, 16)
    assert arrays.masks.dtype == bool
    assert isinstance(arrays.images, np.memmap)
    assert not arrays.images.flags.writeable
    assert len(identity) == 64
    for column in (0, 1):
        mine = arrays.categories == column
        assert (arrays.train & mine).sum() == 3
        assert (arrays.labels[mine & ~arrays.train] == 1).sum() == 2
    assert not arrays.labels[arrays.train].any()
    assert (arrays.masks.any(axis=(1, 2)) == (arrays.labels == 1)).all()
    assert arrays.masks[arrays.labels == 1][0].sum() == 64  # 12 of 24 px a side are 8 of 16


def test_categories_follow_the_stream_and_pixels_the_class(root, cache):
    one, _ = load_arrays(stream("bolt", "nut"), root, 16, cache)
    two, _ = load_arrays(reorder(stream("bolt", "nut"), "reversed"), root, 16, cache)
    assert np.array_equal(one.images[one.categories == 0], two.images[two.categories == 1])
    assert not np.array_equal(one.images[one.categories == 0], two.images[two.categories == 0])


def test_a_second_load_decodes_and_hashes_nothing(root, cache, monkeypatch):
    first, identity = load_arrays(stream("bolt", "nut"), root, 16, cache)
    monkeypatch.setattr("bench.data.decoding.pixels_of_item", None)
    monkeypatch.setattr("bench.data.fingerprint._digest", None)
    again, same = load_arrays(reorder(stream("bolt", "nut"), "reversed"), root, 16, cache)
    assert same == identity
    assert np.array_equal(first.images, again.images)
    with pytest.raises(TypeError):  # the counter-check: another size does decode
        load_arrays(stream("bolt", "nut"), root, 8, cache)


def test_fingerprint_ignores_place_and_order_and_sees_one_byte(root, cache, tmp_path):
    _, identity = load_arrays(stream("bolt", "nut"), root, 16, cache)
    moved = tmp_path / "elsewhere"
    shutil.move(root, moved)
    assert load_arrays(stream("nut", "bolt"), moved, 16, cache)[1] == identity
    assert load_arrays(stream("bolt"), moved, 16, cache)[1] != identity
    for name in ("train/good/001.png", "ground_truth/scratch/000_mask.png"):
        path = moved / "bolt" / name
        before = path.read_bytes()
        Image.open(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT).rotate(90).save(path, compress_level=9)
        changed = load_arrays(stream("bolt", "nut"), moved, 16, cache)[1]
        assert changed != identity
        path.write_bytes(before)
        assert load_arrays(stream("bolt", "nut"), moved, 16, cache)[1] == identity


def test_fingerprint_sees_one_byte_of_the_same_size(root, cache):
    extra = root / "bolt" / "train" / "good" / "tail.png"
    picture(extra)
    extra.write_bytes(extra.read_bytes() + b"\0")  # bytes after the end of the image decode to the same pixels
    one, identity = load_arrays(stream("bolt", "nut"), root, 16, cache)
    size = extra.stat().st_size
    touch_byte(extra)
    other, changed = load_arrays(stream("bolt", "nut"), root, 16, cache)
    assert extra.stat().st_size == size
    assert changed != identity
    assert np.array_equal(one.images, other.images)


def test_two_processes_at_once_decode_once(root, cache):
    pair = [process(root, cache, "print(done, flush=True)") for _ in range(2)]
    said = [each.communicate(timeout=60)[0].split() for each in pair]
    assert [each.returncode for each in pair] == [0, 0]
    assert sorted(map(len, said)) == [0, 14]


def test_a_killed_load_leaves_nothing_that_looks_finished(root, cache):
    killed = process(root, cache, "import os, signal; done == 5 and os.kill(os.getpid(), signal.SIGKILL)")
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert [path.name for path in cache.glob("*.tmp")]
    done = []
    arrays, _ = load_arrays(stream("bolt", "nut"), root, 16, cache, lambda *each: done.append(each))
    assert done == [(index, 14) for index in range(1, 15)]
    assert arrays.images.any(axis=(1, 2, 3)).all()
    assert not list(cache.glob("*.tmp"))


def test_a_damaged_hash_file_costs_time_only(root, cache):
    _, identity = load_arrays(stream("bolt"), root, 16, cache)
    store = next(cache.glob("hashes-*.json"))
    assert len(read_json(store)) == 9
    store.write_text('{"half')
    assert load_arrays(stream("bolt"), root, 16, cache)[1] == identity


@pytest.mark.parametrize("written", ["complete.json", "hashes-"])
def test_a_disk_that_is_full_while_images_are_decoded_takes_one_sentence(root, cache, monkeypatch, written):
    real = os.replace

    def full(source, target):
        if Path(target).name.startswith(written):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(BadInput, match=rf"{written}.* was not saved \(No space left on device\): free some space"):
            load_arrays(stream("bolt"), root, 16, cache)
    assert load_arrays(stream("bolt"), root, 16, cache)[0].images.any()


def test_a_defect_lost_in_the_resize_is_a_note(root, cache):
    path = root / "bolt" / "ground_truth" / "scratch" / "000_mask.png"
    dot = np.zeros((24, 24), np.uint8)
    dot[0, 0] = 255
    Image.fromarray(dot).save(path)
    arrays, _ = load_arrays(stream("bolt"), root, 4, cache)
    assert arrays.notes == (
        "bolt: MVTec AD",
        "1 defects are too small to leave a pixel of their mask at 4 px, first: bolt/test/scratch/000.png",
    )
    assert arrays.odd == arrays.notes[1:]  # what a record tells
    assert load_arrays(stream("bolt"), root, 4, cache)[0].notes == arrays.notes


def test_the_reader_may_render(cache, monkeypatch):
    made = []

    class Rendered:
        __name__ = "rendered"
        NEEDS = "nothing"

        @staticmethod
        def samples(root, categories, options):
            cases = [("train", 0), ("test", 0), ("test", 1)]
            return [Sample(c, split, f"{c}/{split}/{k}", None, k, "spot") for c in categories for split, k in cases]

        @staticmethod
        def decode(sample, size):
            made.append(sample.image)
            return np.full((size, size, 3), 7, np.uint8), np.full((size, size), bool(sample.label))

    entry = type("Entry", (), {"load": lambda self: Rendered})()
    monkeypatch.setattr("bench.registry.find_entry", lambda *_: entry)
    arrays, identity = load_arrays(stream("a", "b", hard=1), None, 8, cache)
    assert (arrays.images == 7).all()
    assert arrays.masks.sum() == 2 * 64
    assert len(made) == 6
    assert load_arrays(stream("a", "b", hard=1), None, 8, cache)[1] == identity
    assert load_arrays(stream("a", "b", hard=2), None, 8, cache)[1] != identity
    Rendered.VERSION = 2
    assert load_arrays(stream("a", "b", hard=1), None, 8, cache)[1] != identity


def test_the_cache_folder_must_be_writable_and_large_enough(root, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match=r"cannot be written.*choose another one"):
        load_arrays(stream("bolt"), root, 16, tmp_path / "file" / "cache")
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(BadInput, match=r"has 0\.0 GB free"):
        load_arrays(stream("bolt"), root, 16, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*/complete.json"))
