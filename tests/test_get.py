"""`data get`: a recipe's images from a folder, an archive or a server, whole, resumed, nothing outside the target."""

import errno
import hashlib
import http.server
import io
import json
import subprocess
import sys
import tarfile
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from trees import picture, stream

from bench.cli import main
from bench.data import get as module
from bench.data import load_arrays, recipes
from bench.data.get import MASKS, get, got_lines
from bench.data.recipes import recipe, recipe_names
from bench.errors import BadInput

FOLDER = "images"
POLYGON = {"shapes": [{"label": "Pit", "points": [[4, 4], [12.4, 4], [12.4, 8.2], [4, 8.2]], "shape_type": "polygon"}]}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def repository(tmp_path):
    """What the authors published: seven images, polygons for two of them, and files in the way."""
    root = tmp_path / "copies" / "theirs"
    for index in range(5):
        picture(root / FOLDER / f"good {index}.png", index)
    for index in range(2):
        picture(root / FOLDER / f"bad{index}.png", 50 + index)
        (root / FOLDER / f"bad{index}.json").write_text(json.dumps(POLYGON))
    (root / ".DS_Store").write_bytes(b"x")
    return root


def manifest(repository, url="http://127.0.0.1:9/{commit}/{path}", **changes) -> dict:
    image = {path.name: [path.name, digest(path)] for path in sorted((repository / FOLDER).glob("*.png"))}
    hidden = {path.stem: [path.name, digest(path)] for path in (repository / FOLDER).glob("*.json")}
    return {
        "version": 1,
        "class": "bolt",
        "source": "https://example.org/theirs",
        "commit": "c0ffee",
        "url": url,
        "licence": "CC BY 4.0",
        "credit": "Somebody",
        "masks": "polygons",
        "folder": FOLDER,
        "files": {
            "train/good": [image[f"good {index}.png"] for index in range(3)],
            "test/good": [image[f"good {index}.png"] for index in (3, 4)],
            "test/pit": [image[f"bad{index}.png"] + hidden[f"bad{index}"] for index in range(2)],
        },
    } | changes


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """Recipes of the test's own, under the name `mine`."""
    place = tmp_path / "recipes"
    monkeypatch.setattr(recipes, "shelf", lambda: place)

    def put(content):
        (place / "mine").mkdir(parents=True, exist_ok=True)
        (place / "mine.yaml").write_text("version: 1\nstreams: {}\n")
        (place / "mine" / "bolt.yaml").write_text(yaml.safe_dump(content))

    return put


def fetched(to, source=None, name="mine"):
    return get(name, to, source, accept_licence=True)


def refused(to, source=None, name="mine") -> str:
    with pytest.raises(BadInput) as raised:
        fetched(to, source, name)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def tree_of(to: Path) -> dict[str, bytes]:
    return {str(path.relative_to(to)): path.read_bytes() for path in to.rglob("*.*") if ".get" not in path.parts}


# ---- the shipped recipes


def test_the_shipped_recipes_hold_together():
    shipped = [recipe(path) for path in sorted((recipes.shelf() / "open").glob("*.yaml"))]
    assert {each.name for each in shipped} >= {"alien", "ball_screw", "cookie", "magnetic_tile", "pcb", "solar_mono"}
    for each in shipped:
        assert len(each.commit) == 40 and "{commit}" in each.url and each.licence and each.masks in MASKS
        assert len({file.target for file in each.files}) == len(each.files)
        for file in each.files:
            assert len(file.sha256) == 64
            assert (file.mask_path is None) == (each.masks == "none" or file.target.parts[2] == "good")
        training = {file.path for file in each.files if file.target.parts[1] == "train"}
        assert training.isdisjoint(file.path for file in each.files if file.target.parts[1] == "test")
    assert "open/ball_screw" in recipe_names()


def test_the_places_of_the_ball_screw_are_trained_on_or_tested_never_both():
    for name in ("ball_screw", "days_0828", "days_0831", "days_0903", "days_0906", "days_0908"):
        places = {"train": set(), "test": set()}
        for file in recipe(recipes.shelf() / "open" / f"{name}.yaml").files:
            places[file.target.parts[1]].add("_".join(file.target.stem.split("_")[2:4]))
        assert (len(places["train"]), len(places["test"])) <= (8, 7)
        assert places["train"].isdisjoint(places["test"])
        assert "477500_315" in places["train"]


# ---- from a folder


def test_from_a_folder_twice_the_same(tmp_path, repository, shelf):
    shelf(manifest(repository))
    seen = []
    got = get("mine", tmp_path / "a", repository.parent, accept_licence=True, progress=lambda *each: seen.append(each))
    assert (got.images, seen[-1]) == (7, (7, 7))
    assert got_lines(got) == [f"{tmp_path / 'a'}: 7 images, every one as its authors published it"]
    fetched(tmp_path / "b", repository)
    assert tree_of(tmp_path / "a") == tree_of(tmp_path / "b")
    arrays, _ = load_arrays(stream("bolt"), tmp_path / "a", 24, tmp_path / "cache")
    assert (arrays.train.sum(), arrays.labels.sum()) == (3, 2)
    assert arrays.masks[arrays.labels == 1].sum(axis=(1, 2)).tolist() == [45, 45]  # 9 x 5, borders included
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "a" / "bolt").rglob("*.*")}
    fetched(tmp_path / "a", repository)
    assert before == {path: path.stat().st_mtime_ns for path in before}


@pytest.mark.parametrize("gone", ["bolt/test/pit/bad0.png", "bolt/ground_truth/pit/bad1_mask.bmp"])
def test_resumed_and_mended(tmp_path, repository, shelf, gone):
    shelf(manifest(repository))
    fetched(tmp_path / "a", repository)
    whole = tree_of(tmp_path / "a")
    (tmp_path / "a" / gone).unlink()
    fetched(tmp_path / "a", repository)
    assert tree_of(tmp_path / "a") == whole


def test_a_kill_leaves_only_whole_files(tmp_path, repository, shelf, monkeypatch):
    shelf(manifest(repository))
    real, written = module._write, []

    def killed(path, content):
        if len(written) == 3:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_name(f".{path.name}.part").write_bytes(content[:5])
            raise KeyboardInterrupt
        written.append(path)
        real(path, content)

    monkeypatch.setattr(module, "_write", killed)
    monkeypatch.setattr(module, "AT_ONCE", 1)
    with pytest.raises(KeyboardInterrupt):
        fetched(tmp_path / "a", repository)
    monkeypatch.setattr(module, "_write", real)
    fetched(tmp_path / "a", repository)
    fetched(tmp_path / "b", repository)
    assert tree_of(tmp_path / "a") == tree_of(tmp_path / "b")


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize("top", ["", "theirs-c0ffee/"])
def test_from_an_archive(tmp_path, repository, shelf, kind, top):
    shelf(manifest(repository))
    copies = tmp_path / "archives"
    copies.mkdir()
    pack(copies / f"theirs.{kind}", [(f"{top}{p.relative_to(repository)}", p) for p in repository.rglob("*.*")])
    fetched(tmp_path / "a", copies)
    fetched(tmp_path / "b", repository)
    assert tree_of(tmp_path / "a") == tree_of(tmp_path / "b")


def pack(archive: Path, members):
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as file:
            for name, path in members:
                file.writestr(name, path.read_bytes())
        return
    with tarfile.open(archive, "w:gz" if archive.suffix == ".gz" else "w") as file:
        for name, path in members:
            entry = tarfile.TarInfo(name)
            entry.size = path.stat().st_size
            file.addfile(entry, io.BytesIO(path.read_bytes()))


# ---- one sentence each


@pytest.mark.parametrize("name", ["good 1.png", "bad0.json"])
def test_a_changed_or_missing_file(tmp_path, repository, shelf, name):
    shelf(manifest(repository))
    file = repository / FOLDER / name
    content = file.read_bytes()
    file.write_bytes(content + b" ")
    said = f"{FOLDER}/{name} in {repository} is not the file that https://example.org/theirs has at c0ffee."
    assert refused(tmp_path / "a", repository) == said
    file.unlink()
    said = refused(tmp_path / "a", repository)
    assert said == f"There is no file {FOLDER}/{name} in {repository}: https://example.org/theirs has it at c0ffee."
    file.write_bytes(content)
    fetched(tmp_path / "a", repository)


@pytest.mark.parametrize("extra", ["bolt/test/good/mine.png", "bolt/notes.txt"])
def test_a_file_too_many_or_changed_in_the_target(tmp_path, repository, shelf, extra):
    shelf(manifest(repository))
    fetched(tmp_path / "a", repository)
    (tmp_path / "a" / extra).write_bytes(b"x")
    assert refused(tmp_path / "a", repository) == (
        f"{tmp_path / 'a' / extra} does not belong to the recipe of bolt: take it out."
    )
    (tmp_path / "a" / extra).unlink()
    for name in ("bolt/test/good/good 3.png", "bolt/ground_truth/pit/bad0_mask.bmp"):
        content = (tmp_path / "a" / name).read_bytes()
        (tmp_path / "a" / name).write_bytes(content + b" ")
        assert "any more: remove it and call this again" in refused(tmp_path / "a", repository)
        (tmp_path / "a" / name).write_bytes(content)


@pytest.mark.parametrize("hostile", ["../../outside.png", "/tmp/outside.png", "..\\outside.png"])
def test_a_hostile_path(tmp_path, repository, shelf, hostile):
    shelf(manifest(repository))
    copies = tmp_path / "archives"
    copies.mkdir()
    members = [(str(path.relative_to(repository)), path) for path in repository.rglob("*.*")]
    pack(copies / "theirs.tar", [*members, (hostile, repository / FOLDER / "bad0.png")])
    assert "leads outside of it: it is not to be trusted" in refused(tmp_path / "a", copies)
    content = manifest(repository)
    content["files"]["test/good"][0][0] = hostile
    shelf(content)
    assert "leads elsewhere" in refused(tmp_path / "a", repository)
    shelf(manifest(repository, **{"class": "../up"}))
    assert "leads elsewhere" in refused(tmp_path / "a", repository)
    assert not list(tmp_path.glob("outside*")) and not (tmp_path / "up").exists()


@pytest.mark.parametrize("place", ["bolt", "bolt/test/pit", ".get"])
def test_a_link_out_of_the_target(tmp_path, repository, shelf, place):
    shelf(manifest(repository))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "a" / place).parent.mkdir(parents=True)
    (tmp_path / "a" / place).symlink_to(tmp_path / "elsewhere")
    assert f"{tmp_path / 'a' / place} is a link to {tmp_path / 'elsewhere'}" in refused(tmp_path / "a", repository)
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize(("code", "says"), [(errno.ENOSPC, "is full: make room"), (errno.EACCES, "Permission denied")])
def test_a_disk_that_takes_no_more(tmp_path, repository, shelf, monkeypatch, code, says):
    shelf(manifest(repository))
    real = Path.write_bytes

    def full(path, content):
        if path.name == ".good 4.png.part":
            raise OSError(code, "Permission denied" if code == errno.EACCES else "No space left on device", str(path))
        return real(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    assert says in refused(tmp_path / "a", repository)
    monkeypatch.undo()


def test_licences_are_told_and_must_be_accepted(tmp_path, repository, shelf, capsys):
    shelf(manifest(repository))
    assert main(["data", "get", "mine", "--to", str(tmp_path / "a"), "--from", str(repository)]) == 2
    said = capsys.readouterr().err
    assert "accept them with --accept-licence" in said
    assert "bolt: CC BY 4.0 (Somebody, https://example.org/theirs)" in said.splitlines()[1]
    assert not (tmp_path / "a").exists()


def test_nothing_to_get(tmp_path, repository, shelf):
    shelf(manifest(repository))
    assert refused(tmp_path / "a", name="other") == "There is no recipe 'other': there are mine, mine/bolt."
    assert "There is no folder" in refused(tmp_path / "a", tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    assert f"There is no copy of https://example.org/theirs in {tmp_path / 'empty'}" in refused(
        tmp_path / "a", tmp_path / "empty"
    )


# ---- masks


@pytest.mark.parametrize("kind", ["polygons", "boxes", "indices", "true colours", "grey"])
def test_masks_of_annotations(kind):
    truth = np.zeros((20, 30), bool)
    truth[4:9, 4:13] = True
    content = io.BytesIO()
    if kind == "polygons":
        content = io.BytesIO(json.dumps(POLYGON).encode())
    elif kind == "boxes":
        content = io.BytesIO(b"4 4 12 8 3\n\n6 5 8 7 1\n")
    elif kind == "indices":  # an anti-aliased border has indices of its own; index 2 is black here
        saved = Image.fromarray((truth * np.where(np.arange(30) > 8, 1, 2)).astype(np.uint8)).convert("P")
        saved.putpalette([0, 0, 0, 35, 164, 54, 0, 0, 0])
        saved.save(content, "PNG")
    elif kind == "true colours":
        Image.fromarray(np.where(truth[..., None], (35, 164, 54, 255), (0, 0, 0, 0)).astype(np.uint8)).save(
            content, "PNG"
        )
    else:
        Image.fromarray(np.where(truth, 250, 3).astype(np.uint8)).save(content, "PNG")
    made = MASKS["indices" if kind == "true colours" else kind](content.getvalue(), (30, 20))
    assert (made == truth).all()


# ---- over the network


class Server(http.server.BaseHTTPRequestHandler):
    """Serves a folder; understands ranges, redirects what it is told to, breaks off `short` bytes before the end."""

    root, short, moved, wrong, asked = Path(), {}, set(), set(), []

    def do_GET(self):
        name = self.path.rpartition("/")[2].replace("%20", " ")
        start = self.headers.get("Range")
        self.asked.append((name, start))
        if name in self.moved and "/moved/" not in self.path:
            self.send_response(302)
            self.send_header("Location", f"/moved/{name.replace(' ', '%20')}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = b"another file" if name in self.wrong else (self.root / FOLDER / name).read_bytes()
        begin = int(start.removeprefix("bytes=").rstrip("-")) if start else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        self.wfile.write(content[begin : len(content) - self.short.get(name, 0)])

    def log_message(self, *_):
        """Keep the test's output clean."""


@pytest.fixture
def server(repository, shelf, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    Server.root, Server.short, Server.moved, Server.wrong, Server.asked = repository, {}, set(), set(), []
    shelf(manifest(repository, f"http://127.0.0.1:{running.server_port}/{{commit}}/{{path}}"))
    yield Server
    running.shutdown()
    thread.join()
    running.server_close()


def test_from_the_network_with_redirects(tmp_path, repository, server):
    server.moved = {"good 0.png", "bad0.json"}
    fetched(tmp_path / "a")
    fetched(tmp_path / "b", repository)
    assert tree_of(tmp_path / "a") == tree_of(tmp_path / "b")
    assert sorted(path.name for path in (tmp_path / "a/.get").iterdir()) == ["bolt.json"]
    server.asked.clear()
    fetched(tmp_path / "a")
    assert server.asked == []


@pytest.mark.parametrize("name", ["good 2.png", "bad1.json"])
def test_a_broken_connection_goes_on_where_it_stopped(tmp_path, repository, server, name):
    size = (repository / FOLDER / name).stat().st_size
    server.short = {name: 100}
    assert "cannot be reached (it stopped after" in refused(tmp_path / "a")
    server.short = {}
    fetched(tmp_path / "a")
    assert (name, f"bytes={size - 100}-") in server.asked
    fetched(tmp_path / "b", repository)
    assert tree_of(tmp_path / "a") == tree_of(tmp_path / "b")


@pytest.mark.parametrize("name", ["good 2.png", "bad1.json"])
def test_a_wrong_checksum(tmp_path, repository, server, name):
    server.wrong = {name}
    assert "is not what its owner published" in refused(tmp_path / "a")
    assert not [path for path in (tmp_path / "a").rglob("*") if path.is_file() and path.read_bytes() == b"another file"]
    server.wrong = set()
    fetched(tmp_path / "a")


def test_no_connection(tmp_path, repository, shelf, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    shelf(manifest(repository))
    assert "cannot be reached" in refused(tmp_path / "a")


def test_getting_needs_no_torch():
    code = "import sys, bench.data.get; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
