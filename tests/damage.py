"""Files that were damaged or come from elsewhere, and what must hold for whoever reads them.

Each property writes one example and raises AssertionError where a reader does anything but take it as it was written,
refuse it in a sentence (`BadInput`), or make it anew. What people may write by hand is damaged in its structure, too.
"""

import io
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import torch
import trees
import yaml
from cells import cell
from hypothesis import strategies as st

from bench import data, results
from bench.data.listing import listing
from bench.errors import BadInput
from bench.exchange.submission import form as forms
from bench.exchange.submission import layout
from bench.metrics.scoring import Truth
from bench.render import leaderboard
from bench.render.show import show
from bench.results import segments
from bench.results.archive import Archive
from bench.runner import checkpoint
from bench.runner.disk_cache import Shelf
from bench.schema import stream as streams
from bench.schema.cell_json import json_text, plain, sealed

# one change of a file's bytes: (kind, place as a share of the file, what)
CHANGE = st.tuples(
    st.sampled_from(["flip", "cut", "insert", "remove", "zero", "repeat"]),
    st.floats(0, 1, exclude_max=True),
    st.binary(min_size=1, max_size=8),
)
CHANGES = st.lists(CHANGE, min_size=1, max_size=3)
NUMBERS = st.integers(-(2**70), 2**70) | st.floats() | st.sampled_from([1.7, 0.999, -1e-9, 10**400, True])
WORDS = st.text(max_size=12) | st.sampled_from(["../x", "=1+1", "<img src=x onerror=y>", "\0", "nan", "a" * 300, "ok"])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
# one change of a structure: (which of its places, what to do there, the new value)
EDITS = st.lists(
    st.tuples(st.integers(0, 10**6), st.sampled_from(["put", "drop", "add"]), VALUES), min_size=1, max_size=2
)


def damaged(content: bytes, changes: list) -> bytes:
    """`content` after each of `changes`."""
    for kind, share, what in changes:
        at = int(share * len(content))
        head, tail = content[:at], content[at:]
        if kind == "flip" and tail:
            content = head + bytes([tail[0] ^ (what[0] or 1)]) + tail[1:]
        elif kind == "cut":
            content = head
        elif kind == "insert":
            content = head + what + tail
        elif kind == "remove":
            content = head + tail[len(what) :]
        elif kind == "zero":
            content = head + bytes(len(tail[:64])) + tail[64:]
        elif kind == "repeat":
            content = head + tail[:64] + tail
    return content


def edited(value: object, edits: list) -> object:
    """A structure of dictionaries and lists after each of `edits`."""
    value = json.loads(json.dumps(value))
    for number, kind, new in edits:
        places = list(_places(value))
        holder, key = places[number % len(places)]
        if kind == "put":
            holder[key] = new
        elif kind == "drop":
            del holder[key]
        elif isinstance(holder, dict):
            holder[f"{key}x"] = new
        else:
            holder.insert(key, new)
        if not value:
            break
    return value


def _places(value):
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(pairs):
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)


class Cells:
    """A cell file among good ones."""

    examples = st.one_of(st.tuples(st.just("bytes"), CHANGES), st.tuples(st.just("edits"), EDITS))

    def __init__(self, folder: Path):
        self.root = folder / "results"
        results.write_cell(self.root, cell(0.8, seed=1))
        self.path = results.write_cell(self.root, cell(0.9, holdout=0.2))
        self.content = self.path.read_bytes()
        self.whole = plain(results.read(self.path))
        self.spec = plain(cell(0.9, holdout=0.2))

    def holds(self, example) -> str:
        kind, changes = example
        if kind == "bytes":
            self.path.write_bytes(damaged(self.content, changes))
        else:  # written by hand, by somebody who takes the trouble to seal it
            self.path.write_bytes(_sealed(edited(self.spec, changes)))
        try:
            record = plain(results.read(self.path))
            taken = "taken"
            assert kind == "edits" or record == self.whole, "a number changed without a word"
        except BadInput:
            taken = "refused"
        page, *_ = leaderboard.render(self.root).values()
        assert "onerror" not in page or "<img" not in page
        if taken == "taken":
            show(str(self.path), self.root)
        return taken


def _sealed(content: object) -> bytes:
    try:
        return sealed(json_text(content)).encode()
    except (TypeError, KeyError, AttributeError, ValueError, OverflowError):  # no longer of the shape of a cell
        return json.dumps(content).encode()


class Forms:
    """A submission: its form, and its arrays."""

    examples = st.one_of(
        st.tuples(st.just("bytes"), CHANGES), st.tuples(st.just("edits"), EDITS), st.tuples(st.just("arrays"), CHANGES)
    )
    FORM: ClassVar = {
        "method": "mine",
        "detector": "theirs",
        "author": "A. Nother",
        "reference": "a report",
        "scenario": "custom/mini@1",
        "order": "published",
        "fingerprint": "0" * 16,
        "capabilities": ["labels"],
        "seed": 0,
        "backbone": "resnet18",
        "weights": "imagenet",
        "tuned_on": ["nothing"],
        "cost": {"train_s": [1.0, 2.0], "parameters": 5, "ms_per_image": {"1": 2.5}, "device": "CPU"},
    }

    def __init__(self, folder: Path):
        self.folder = folder / "handed in"
        self.folder.mkdir(parents=True)
        manifest = folder / "mini.yaml"
        manifest.write_text(trees.MANIFEST)
        self.options = SimpleNamespace(scenario=str(manifest), plugin=())
        self.stream = streams.load_stream(str(manifest))
        self.arrays, _ = data.load_arrays(self.stream, None, 64, folder / "cache")
        self.truth = Truth(self.arrays, 2)
        self.content = yaml.safe_dump(self.FORM).encode()
        self.scores = {
            f"step-{step}/{name}/scores": np.linspace(0, 1, 8, dtype=np.float32) * (step + 1)
            for step in range(2)
            for name in self.stream.classes[: step + 1]
        }
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **self.scores)
        self.npz = buffer.getvalue()

    def holds(self, example) -> str:
        kind, changes = example
        path, scores = self.folder / "submission.yaml", self.folder / "scores.npz"
        path.write_bytes(damaged(self.content, changes) if kind == "bytes" else self.content)
        scores.write_bytes(damaged(self.npz, changes) if kind == "arrays" else self.npz)
        if kind == "edits":
            path.write_text(yaml.safe_dump(edited(self.FORM, changes)))
        try:
            form = forms.read_form(self.folder, self.options)
            results.blank(form.spec("0" * 64), form.capabilities, "ok", "")
            with Archive(scores, layout.limit(self.stream, self.truth, self.arrays)) as archive:
                layout.check_layout(archive, self.stream, self.truth, self.arrays)
                values = {name: archive.read(name) for name in archive.entries if name != "run"}
            layout.check_values(scores, values)
        except BadInput as error:
            assert len(str(error)) < 2000, "a sentence, not the file"
            return "refused"
        assert all(np.array_equal(values[name], array) for name, array in self.scores.items()), "scores changed"
        return "taken"


class Streams:
    """A stream file, and the reading of its data."""

    examples = st.one_of(st.tuples(st.just("bytes"), CHANGES), st.tuples(st.just("edits"), EDITS))
    WHOLE: ClassVar = {
        "version": 1,
        "reader": "folder",
        "image_size": 64,
        "source": "my own data",
        "options": {"train_limit": 3, "masks": "read"},
        "holdout": 0.2,
        "steps": [["bolt"], ["nut"]],
    }

    def __init__(self, folder: Path):
        self.path, self.root = folder / "mini.yaml", trees.tree(folder / "data")
        self.content = yaml.safe_dump(self.WHOLE).encode()

    def holds(self, example) -> str:
        kind, changes = example
        if kind == "bytes":
            self.path.write_bytes(damaged(self.content, changes))
        else:
            self.path.write_text(yaml.safe_dump(edited(self.WHOLE, changes)))
        try:
            stream = streams.load_stream(str(self.path))
            listing(stream, self.root)
            listing(streams.reorder(stream, "random:1"), self.root)
        except BadInput as error:
            assert len(str(error)) < 2000, "a sentence, not the file"
            return "refused"
        assert set(stream.classes) <= {"bolt", "nut"}
        return "taken"


class Checkpoints:
    """What a killed run goes on from: the checkpoint, and the scores of a step."""

    examples = st.tuples(st.sampled_from(["checkpoint", "step"]), CHANGES)

    def __init__(self, folder: Path):
        self.path, self.scores = folder / "seed-0.ckpt", folder / "seed-0.scores.npz"
        self.carried = [bytes(range(256)) * 4, b"bank" * 100]
        self.arrays = {"bolt/scores": np.linspace(0, 1, 9, dtype=np.float32)}
        self.row = {"matrices.image_auroc": np.array([0.5, 0.75]), "pooled.image_auroc": np.array(0.5)}
        self.digests = [segments.write_segment(self.scores, 0, self.arrays, self.row)]
        checkpoint.save(self.path, "key", self.carried, {"train_s": [1.5, 2.5]}, self.digests)
        self.step = segments.file_of(self.scores, 0)
        self.content = {"checkpoint": self.path.read_bytes(), "step": self.step.read_bytes()}

    def holds(self, example) -> str:
        kind, changes = example
        file = self.path if kind == "checkpoint" else self.step
        file.write_bytes(damaged(self.content[kind], changes))
        try:
            if kind == "checkpoint":
                saved = checkpoint.load_checkpoint(self.path, "key")
                assert saved is None or (saved["carried"], saved["scores"]) == (self.carried, self.digests)
                assert saved is None or saved["log"] == {"train_s": [1.5, 2.5]}
                return "taken" if saved else "refused"
            if not segments.steps_held(self.scores, self.digests, maps=False):
                return "refused"
            ((_, row),) = segments.rows(self.scores, 1)
            assert row.keys() == self.row.keys() and all(np.array_equal(row[name], self.row[name]) for name in row)
            segments.join(self.scores, 7, self.digests)
            with Archive(self.scores) as archive:
                assert np.array_equal(archive.read("step-0/bolt/scores"), self.arrays["bolt/scores"])
            return "taken"
        finally:
            file.write_bytes(self.content[kind])


class Caches:
    """Decoded images, the hashes of their files, and features of frozen networks."""

    examples = st.tuples(st.sampled_from(["images", "masks", "complete", "hashes", "features"]), CHANGES)

    def __init__(self, folder: Path):
        self.root, self.cache = trees.tree(folder / "data", ("nut",)), folder / "cache"
        self.stream = trees.stream("nut")
        self.arrays, self.fingerprint = self._load()
        self.images, self.masks = np.array(self.arrays.images), np.array(self.arrays.masks)
        self.shelf, self.features = Shelf(folder / "features", 1e6), {"layer1": torch.arange(24.0).reshape(2, 3, 4)}
        self.shelf.write("one", self.features)
        files = {
            "images": "*/images.npy",
            "masks": "*/masks.npy",
            "complete": "*/complete.json",
            "hashes": "hashes-*.json",
        }
        self.files = {name: next(self.cache.glob(pattern)) for name, pattern in files.items()}
        self.files["features"] = folder / "features" / "one.safetensors"
        self.content = {name: file.read_bytes() for name, file in self.files.items()}

    def _load(self):
        return data.load_arrays(self.stream, self.root, 16, self.cache)

    def holds(self, example) -> str:
        kind, changes = example
        new = damaged(self.content[kind], changes)
        for name, file in self.files.items():
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(new if name == kind else self.content[name])
        if kind == "features":
            found = self.shelf.read("one")
            assert found is None or torch.equal(found["layer1"], self.features["layer1"])
            return "refused" if found is None else "taken"
        arrays, fingerprint = self._load()
        assert fingerprint == self.fingerprint
        assert np.array_equal(arrays.images, self.images) and np.array_equal(arrays.masks, self.masks)
        assert arrays.notes == self.arrays.notes
        return "taken" if self.files[kind].read_bytes() == new else "made anew"


KINDS: dict[str, Callable] = {
    "cell": Cells,
    "form": Forms,
    "stream": Streams,
    "checkpoint": Checkpoints,
    "cache": Caches,
}
