"""`data check` and `data download`: the report, and a fetch that ends whole or says why not."""

import hashlib
import http.server
import io
import shutil
import tarfile
import threading

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from trees import mask, tree, visa_tree

from bench.data import download as downloads
from bench.data import load_arrays
from bench.data.check import check_data
from bench.errors import BadInput
from bench.schema.stream import load_stream as stream_named
from scenarios import mvtec


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def test_a_folder_of_ones_own(tmp_path, cache):
    root = tree(tmp_path / "data")
    (root / "nut" / "train" / "good" / "notes.txt").write_text("")
    report = str(check_data(root, cache=cache))
    assert report.startswith(f"{root}: folder, 2 classes, 14 images\n")
    assert ["bolt", "3", "2", "2", "2", "scratch"] in [line.split() for line in report.splitlines()]
    assert "missing: none" in report
    assert "notes.txt is no image and is not read" in report
    assert "streams that run on it: none" in report


def test_mvtec_with_other_counts_warns_and_lists_its_streams(tmp_path, cache):
    root = tree(tmp_path / "data", tuple(mvtec.OFFICIAL), train=2)
    report = str(check_data(root, cache=cache))
    assert f"{root}: mvtec, 15 classes" in report
    assert "warnings: 30\n  bottle has 2 train images, officially 209\n" in report
    assert "  and 10 more: --json lists them" in report
    _, identity = load_arrays(stream_named("mvtec/10-5"), root, 16, cache)
    assert f"mvtec/10-5@1  fingerprint {identity[:16]}" in report
    assert f"fingerprint of all of it: {identity}" in report
    _, ten = load_arrays(stream_named("mvtec/clad-10"), root, 16, cache)
    assert f"mvtec/clad-10@1  fingerprint {ten[:16]}" in report
    assert "visa/" not in report


def test_a_test_image_that_is_a_training_image_is_told(tmp_path, cache):
    root = tree(tmp_path / "data")
    shutil.copyfile(root / "nut/train/good/001.png", root / "nut/test/good/001.png")
    said = "the test image nut/test/good/001.png is the training image nut/train/good/001.png"
    assert f"leaks from training to test: 1\n  {said}\n" in str(check_data(root, cache=cache))


def photograph(path, seed, light=1.0, **saving):
    """A rigid product: always the same plate, a little shifted, with a grain of its own."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:96, :96] + rng.uniform(-0.7, 0.7, (2, 1, 1))
    plate = 120 + 60 * np.sin(x / 9) * np.cos(y / 13) + gaussian_filter(rng.normal(0, 60, (96, 96)), 4)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(light * plate, 0, 255).astype(np.uint8)).convert("RGB").save(path, **saving)


def test_a_test_image_that_was_saved_anew_and_brightened_is_told_and_its_siblings_are_not(tmp_path, cache):
    root = tree(tmp_path / "data", ("plate",), train=0)
    for index in range(20):
        photograph(root / f"plate/train/good/{index:03}.png", index)
        photograph(root / f"plate/test/good/{index:03}.png", 100 + index)
    assert "nearly is" not in str(check_data(root, cache=cache))
    photograph(root / "plate/test/good/copy.jpg", 7, light=1.08, quality=80)
    report = str(check_data(root, cache=cache))
    said = "the test image plate/test/good/copy.jpg nearly is the training image plate/train/good/007.png"
    assert f"nearly training images: 1\n  {said}\n" in report


def test_part_of_mvtec_says_what_is_absent(tmp_path, cache):
    report = str(check_data(tree(tmp_path / "data", ("bottle", "cable")), cache=cache))
    assert "capsule is not here" in report
    assert "streams that run on it: none" in report


def test_visa(tmp_path, cache):
    report = str(check_data(visa_tree(tmp_path / "data"), cache=cache))
    assert "visa, 2 classes, 10 images" in report
    assert "candle has 2 test images, officially 200" in report


def test_problems_are_listed_not_raised(tmp_path, cache):
    root = tree(tmp_path / "data")
    (root / "bolt" / "train" / "good" / "001.png").write_bytes(b"")
    mask(root / "nut" / "ground_truth" / "scratch" / "000_mask.png", value=0)
    (root / "nut" / "ground_truth" / "scratch" / "001_mask.png").unlink()
    for path in (root / "bolt" / "test" / "good").iterdir():
        path.unlink()
    report = str(check_data(root, cache=cache))
    for words in ("without normal test images", "001.png is cut short", "is empty", "has no mask"):
        assert words in report
    assert ["nut", "3", "2", "2", "0", "scratch"] in [line.split() for line in report.splitlines()]


def test_nothing_to_report_on(tmp_path, cache):
    root = tree(tmp_path / "up" / "data")
    inside = ("bolt", "bolt/train", "bolt/test", "bolt/ground_truth", "bolt/train/good")
    for place in (tmp_path / "up", *(root / part for part in inside)):
        with pytest.raises(BadInput, match=f"wrong level of the data set: give {root} instead"):
            check_data(place, cache=cache)
    with pytest.raises(BadInput, match="There is no folder"):
        check_data(tmp_path / "absent", cache=cache)
    with pytest.raises(BadInput, match="use mvtec, visa, folder"):
        check_data(root, cache=cache, reader="synthetic")


class Server(http.server.BaseHTTPRequestHandler):
    """Serves `content`; understands a range, and stops `short` bytes before the end."""

    content, short = b"", 0

    def do_GET(self):
        asked = self.headers.get("Range")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if start >= len(self.content):
            self.send_error(416)
            return
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(self.content) - start))
        self.end_headers()
        self.wfile.write(self.content[start : len(self.content) - self.short])

    def log_message(self, *_):
        """Keep the test's output clean."""


def archive(names):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.size = 5
            file.addfile(entry, io.BytesIO(b"hello"))
    return buffer.getvalue()


@pytest.fixture
def source(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    def offer(content, short=0):
        Server.content, Server.short = content, short
        monkeypatch.setattr(downloads, "VISA", f"http://127.0.0.1:{server.server_port}/VisA_20220922.tar")
        monkeypatch.setattr(downloads, "VISA_SHA256", hashlib.sha256(content).hexdigest())

    yield offer
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("top", ["", "VisA/"])
def test_download_goes_on_where_it_stopped(tmp_path, source, top):
    content = archive([f"{top}split_csv/1cls.csv", f"{top}candle/a.JPG"])
    source(content, short=100)
    with pytest.raises(BadInput, match=r"cannot be reached .*stopped after"):
        downloads.download("visa", tmp_path)
    part = tmp_path / "VisA_20220922.tar.part"
    assert part.stat().st_size == len(content) - 100
    source(content)
    seen = []
    assert downloads.download("visa", tmp_path, lambda *each: seen.append(each)) == tmp_path / "visa"
    assert seen == [(len(content), len(content))]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["visa"]
    assert (tmp_path / "visa" / "split_csv" / "1cls.csv").read_text() == "hello"
    with pytest.raises(BadInput, match="is there already"):
        downloads.download("visa", tmp_path)


def test_a_part_that_is_whole_is_taken(tmp_path, source):
    content = archive(["candle/a.JPG", "split_csv/1cls.csv"])
    source(content)
    (tmp_path / "VisA_20220922.tar.part").write_bytes(content)
    assert downloads.download("visa", tmp_path).is_dir()


def test_a_damaged_or_hostile_archive(tmp_path, source, monkeypatch):
    source(archive(["../outside.txt"]))
    with pytest.raises(BadInput, match="cannot be unpacked"):
        downloads.download("visa", tmp_path / "a")
    assert not (tmp_path / "outside.txt").exists()
    assert not (tmp_path / "a" / "visa").exists()
    monkeypatch.setattr(downloads, "VISA_SHA256", "0" * 64)
    with pytest.raises(BadInput, match="not what its owner published"):
        downloads.download("visa", tmp_path / "b")


def test_offline_and_unknown(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(downloads, "VISA", "http://127.0.0.1:9/VisA_20220922.tar")
    with pytest.raises(BadInput, match=r"cannot be reached .*check the connection"):
        downloads.download("visa", tmp_path)
    with pytest.raises(BadInput, match=r"comes only with its owner's form.*mvtec.com"):
        downloads.download("mvtec", tmp_path)
    with pytest.raises(BadInput, match="use mvtec or visa"):
        downloads.download("btad", tmp_path)
