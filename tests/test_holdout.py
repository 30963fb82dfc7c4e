"""Normal images that no method trains on: which they are, that nobody sees them, and that thresholds hold on them."""

import math
from dataclasses import replace

import numpy as np
import pytest
from mini import cell, read

from bench import data, results
from bench.data import held_out_rows, rows_of
from bench.errors import BadInput
from bench.results import stored
from bench.runner import run_cell
from bench.schema import stream as streams

pytestmark = pytest.mark.slow


def load(stream, cache, share):
    return data.load_arrays(stream, None, stream.image_size, cache, holdout=share)[0]


def test_a_share_of_each_class_is_held_out_and_everything_else_stays(stream, cache, arrays):
    held = load(stream, cache, 0.25)
    for column in range(3):
        trained, kept = rows_of(held, [column], train=True), held_out_rows(held, [column])
        assert (len(trained), len(kept)) == (9, 3)
        assert sorted([*trained, *kept]) == rows_of(arrays, [column], train=True).tolist()
        assert np.array_equal(rows_of(held, [column], train=False), rows_of(arrays, [column], train=False))
    assert len(held_out_rows(arrays, [0, 1, 2])) == 0


def test_the_draw_hangs_on_the_data_alone(stream, cache):
    other = streams.reorder(stream, "reversed")
    first, second = load(stream, cache, 0.25), load(other, cache, 0.25)
    assert np.array_equal(first.held_out, second.held_out)
    of_classes = [held_out_rows(first, [c]) - rows_of(first, [c], train=True)[0] for c in range(3)]
    assert not all(np.array_equal(of_classes[0], rows) for rows in of_classes), "not the same places in every class"


def test_at_least_one_is_held_out_and_one_is_trained_on(stream, cache, arrays):
    assert len(held_out_rows(load(stream, cache, 0.01), [0])) == 1
    assert len(rows_of(load(stream, cache, 0.99), [0], train=True)) == 1
    alone = replace(arrays, train=np.arange(len(arrays.train)) == rows_of(arrays, [0], train=True)[0])
    with pytest.raises(BadInput, match="single training image"):
        data.hold_out(replace(alone, categories=np.zeros(len(arrays.train), int)), 0.2, "ab" * 32)


def test_no_method_trains_on_them_and_their_scores_are_stored(stream, cache, tmp_path):
    made = cell(stream, cache, "joint", "autoencoder", overrides={"autoencoder": {"epochs": 1}})
    one = replace(made, spec=made.spec | {"holdout": 0.25})
    run_cell(one, tmp_path)
    record = read(tmp_path, one)
    assert record["status"] == "ok", record["reason"]
    assert record["cost"]["train_images"][0] == 27  # nine of twelve images of each class
    assert record["cost"]["optimizer_steps"][0] == math.ceil(27 / 8)  # batches of one epoch
    held = stored.read_stored(stored.scores_path(results.cell_path(tmp_path, one.spec)))
    assert {key: len(scores) for key, scores in held.calibration.items()} == {
        (t, name): 3 for t in range(3) for name in stream.classes[: t + 1]
    }
    assert np.isfinite(record["threshold"]["false_alarm"]).all()
    assert one.key != made.key and "holdout" not in made.spec


def test_streams_say_what_they_hold_out_and_the_command_line_otherwise(bench, tmp_path):
    mini = (tmp_path / "mini.yaml").read_text()
    run_it = ("run", "--methods", "finetune", "--detectors", "autoencoder", "--set", "autoencoder.epochs=1")
    (tmp_path / "held.yaml").write_text(mini + "holdout: 0.25\n")
    for name, more, share, variant in [
        ("mini", (), None, ""),
        ("held", (), 0.25, ""),
        ("held", ("--holdout", "0"), None, "holdout=0.0"),
        ("mini", ("--holdout", "0.5"), 0.5, "holdout=0.5"),
    ]:
        code, out = bench(*run_it, "--scenario", f"{name}.yaml", *more)
        assert code == 0, out
        found = [results.read(path)["spec"] for path in tmp_path.glob(f"results/custom/{name}/**/seed-0.json")]
        spec = next(spec for spec in found if spec.get("holdout") == share)
        assert variant in spec["variant"] and ("holdout" in spec["variant"]) == bool(variant)
    for wrong in ("1", "-0.1", "x"):
        assert bench(*run_it, "--scenario", "mini.yaml", "--holdout", wrong)[0] == 2
    (tmp_path / "held.yaml").write_text(mini + "holdout: 1.5\n")
    code, out = bench(*run_it, "--scenario", "held.yaml")
    assert code == 2 and "has holdout 1.5" in out


def test_a_folder_of_ones_own_is_held_out_by_default_and_a_papers_stream_is_not(tmp_path):
    text = "version: 1\nreader: {}\nimage_size: 64\nsource: mine\nsteps: [[a], [b]]\n"
    for reader, share in (("folder", 0.2), ("mvtec", 0)):
        (tmp_path / "own.yaml").write_text(text.format(reader))
        assert streams.load_stream(str(tmp_path / "own.yaml")).holdout == share
    assert streams.load_stream("mvtec/1x15").holdout == streams.load_stream("visa/1x12").holdout == 0
