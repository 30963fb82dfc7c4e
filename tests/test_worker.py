"""A system in an environment of its own: what it is given, what it gives back, and that the table says what it said."""

import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest
import yaml
from command import ROOT, tables
from handed_in import COUNT, SIDE

from bench import data, results
from bench.results import stored
from bench.schema import stream as streams

pytestmark = pytest.mark.slow

EXAMPLE = ROOT / "docs" / "worker_example.py"
EXPORT = ("worker", "export", "mini.yaml", "--to", "out")
WHO = {"method": "mean_colour", "detector": "spread", "author": "A. Body", "reference": "docs/worker_example.py"}


@pytest.fixture
def folder(bench, tmp_path):
    code, out = bench(*EXPORT, "--seed", "3")
    assert code == 0, out
    return tmp_path / "out"


def truth(tmp_path):
    """The arrays of the stream in the order of the data set, and a class's test rows."""
    arrays, _ = data.load_arrays(streams.load_stream(str(tmp_path / "mini.yaml")), None, SIDE, tmp_path / ".cache")
    return arrays, [data.rows_of(arrays, [c], train=False) for c in range(2)]


def sign(folder):
    form = yaml.safe_load((folder / "submission.yaml").read_text()) | WHO
    (folder / "submission.yaml").write_text(yaml.safe_dump(form))


def test_the_example_runs_from_export_to_table(bench, folder, tmp_path):
    subprocess.run([sys.executable, "-I", EXAMPLE, folder], check=True)
    assert bench("worker", "collect", "out")[0] == 0
    code, out = bench("submit", "out", "--scenario", "mini.yaml")
    assert code == 2 and "has the method ''" in out, "the form has to be filled in"
    sign(folder)
    code, out = bench("submit", "out", "--scenario", "mini.yaml")
    assert code == 0, out
    path = next((tmp_path / "results").glob("custom/mini/mean_colour+spread,external=A.-Body,*/seed-3.json"))
    made = results.read(path)
    assert all(np.isfinite(matrix[-1]).all() for matrix in made["matrices"].values())
    assert np.isnan(made["threshold"]["f1"]).all() and made["routing_accuracy"][0] == 1.0
    assert "| mean_colour¶ " in tables(tmp_path)
    _same_as_said(stored.read_stored(stored.scores_path(path)), tmp_path)


def _same_as_said(held, tmp_path):
    """Each stored answer is what the example says of that very image, in the order of the data set."""
    spec = importlib.util.spec_from_file_location("worker_example", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    arrays, tests = truth(tmp_path)
    known = []
    for step, names in enumerate((("gear",), ("gear", "wood"))):
        known.append(example.learn(arrays.images[data.rows_of(arrays, [step], train=True)]))
        for column, name in enumerate(names):
            said = [example.judge(arrays.images[row], known) for row in tests[column]]
            assert held.scores[step, name].tolist() == [np.float32(score) for score, *_ in said]
            assert held.routes[step, name].tolist() == [route for *_, route in said]
            maps = np.stack([anomaly_map for _, anomaly_map, _ in said])
            assert np.abs(held.maps(step, name) - maps).max() <= np.ptp(maps) / 1000


def test_nothing_but_images_is_given(folder, tmp_path):
    arrays, tests = truth(tmp_path)
    spec = json.loads((folder / "spec.json").read_text())
    assert spec == {"schema": 1, "scenario": "custom/mini@1", "steps": 2, "image_size": SIDE, "seed": 3} | {
        "capabilities": []
    }
    for step in range(2):
        with np.load(folder / f"step-{step}" / "train.npz") as train:
            assert set(train) == {"images", "calibrate"}
            assert np.array_equal(train["images"], arrays.images[data.rows_of(arrays, [step], train=True)])
        with np.load(folder / f"step-{step}" / "test.npz") as test:
            assert set(test) == {"images"} and test["images"].shape == (COUNT * (step + 1), SIDE, SIDE, 3)
            rows = np.concatenate(tests[: step + 1])
            shown = [image.tobytes() for image in test["images"]]
            assert sorted(shown) == sorted(arrays.images[row].tobytes() for row in rows), "all of them, once each"
            assert shown != [arrays.images[row].tobytes() for row in rows], "not in the order of the data set"
    told = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    assert not any(word in content for content in told for word in (b"gear", b"wood", b"good", b"scratch"))
    assert (tmp_path / "out.key.json").is_file(), "the key lies outside"


def test_the_order_is_another_at_every_step_and_for_every_export(bench, folder, tmp_path):
    from bench.exchange.worker import key as keys

    bench(*EXPORT[:-1], "again")
    one, other = keys.read_key(folder), keys.read_key(tmp_path / "again")
    assert one.shuffle != other.shuffle
    columns, places = one.shown(1)
    assert sorted(zip(columns.tolist(), places.tolist(), strict=True)) == [(c, i) for c in (0, 1) for i in range(COUNT)]
    assert not np.array_equal(columns, np.sort(columns)), "classes are mixed"
    of_gear = places[columns == 0]
    assert not np.array_equal(of_gear, one.shown(0)[1])


def test_labels_and_classes_are_given_if_declared_only(bench, tmp_path):
    assert bench(*EXPORT, "--capabilities", "labels,task_oracle")[0] == 0
    with np.load(tmp_path / "out/step-1/train.npz") as train, np.load(tmp_path / "out/step-1/test.npz") as test:
        assert train["labels"].tolist() == [1] * 8
        assert np.bincount(test["classes"]).tolist() == [COUNT, COUNT]
    assert yaml.safe_load((tmp_path / "out/submission.yaml").read_text())["capabilities"] == ["labels", "task_oracle"]


def answers(folder, step, **changed):
    count = COUNT * (step + 1)
    values = {"scores": np.arange(count, dtype=np.float32), "maps": np.zeros((count, SIDE, SIDE), np.float32)} | changed
    np.savez(folder / f"step-{step}" / "scores.npz", **{k: v for k, v in values.items() if v is not None})


WRONG = {
    "no scores": ({"scores": None}, "lacks the array scores"),
    "one short": ({"scores": np.zeros(COUNT - 1, np.float32)}, "it must be floats (8,), one per image shown"),
    "labels instead": ({"scores": np.zeros(COUNT, int)}, "it must be floats (8,)"),
    "maps of another size": ({"maps": np.zeros((COUNT, 32, 32), np.float32)}, "it must be floats (8, 64, 64)"),
    "a map with NaN": ({"maps": np.full((COUNT, SIDE, SIDE), np.nan, np.float32)}, "NaN or infinite"),
    "an unknown array": ({"truth": np.zeros(COUNT)}, "unknown array 'truth'"),
    "objects": ({"scores": np.array([{}] * COUNT, object)}, "would be unpickled"),
}


@pytest.mark.parametrize("name", WRONG, ids=str)
@pytest.mark.filterwarnings("error")
def test_answers_that_do_not_fit_are_refused(name, bench, folder):
    changed, said = WRONG[name]
    answers(folder, 0, **changed)
    answers(folder, 1)
    code, out = bench("worker", "collect", "out")
    assert code == 2 and said in out and len(out.strip().splitlines()) == 1, out


def test_a_missing_step_a_missing_key_and_a_folder_in_use_are_told(bench, folder, tmp_path):
    answers(folder, 0)
    code, out = bench("worker", "collect", "out")
    assert code == 2 and "there is no file out/step-1/scores.npz" in out
    assert "is not empty" in bench(*EXPORT)[1]
    (tmp_path / "out.key.json").unlink()
    assert "the key to the order of the images, cannot be read" in bench("worker", "collect", "out")[1]
