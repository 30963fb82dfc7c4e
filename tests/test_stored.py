"""What a run stores gives its own numbers again, whatever happens to the run in between."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from command import MINI
from mini import cell, read

from bench import results
from bench.analysis.figures import figures
from bench.errors import BadInput
from bench.exchange import rescore
from bench.metrics import ranking as metrics
from bench.metrics import scoring
from bench.metrics.scoring import Judged, Rows, Truth
from bench.results import segments, stored
from bench.results.archive import Archive
from bench.runner import run_cell

pytestmark = pytest.mark.slow

CELL = "custom/mini/finetune+autoencoder,autoencoder.epochs=1/seed-0"
SCORE = ("score", CELL, "--scenario", "mini.yaml")


def quick(stream, cache, *, method="finetune", maps=True):
    made = cell(stream, cache, method, "autoencoder", overrides={"autoencoder": {"epochs": 1}})
    return replace(made, spec=made.spec | {"holdout": 0.25}, request=replace(made.request, save_maps=maps))


@pytest.fixture(scope="module")
def finished(stream, cache, tmp_path_factory):
    """The folder of a cell run with --save-maps."""
    root = tmp_path_factory.mktemp("finished")
    run_cell(quick(stream, cache), root)
    return root


def scores_of(root, one):
    return stored.scores_path(results.cell_path(root, one.spec))


@pytest.mark.parametrize("maps", [True, False], ids=["with maps", "scores only"])
def test_re_scoring_gives_the_cell_file_again_byte_for_byte(bench, tmp_path, maps):
    code, out = bench(*MINI, *(["--save-maps"] if maps else []))
    assert code == 0, out
    path = next(tmp_path.glob("results/custom/**/seed-0.json"))
    before = path.read_bytes()
    code, out = bench(*SCORE)
    assert code == 0 and "no number moved" in out, out
    assert path.read_bytes() == before
    assert results.read(path)["stored"]["maps"] is maps


def test_a_run_says_how_many_bytes_its_maps_take_and_asking_for_maps_runs_again(bench, tmp_path):
    assert bench(*MINI)[0] == 0
    assert "1 of 1 cells would run" in bench(*MINI, "--save-maps", "--plan")[1]
    out = bench(*MINI, "--save-maps")[1]
    size = next(tmp_path.glob("results/custom/**/seed-0.scores.npz")).stat().st_size
    assert f"scores and maps of 1 cells: {size:,} bytes" in out
    assert "0 of 1 cells would run" in bench(*MINI, "--save-maps", "--plan")[1]


def test_every_row_comes_from_what_is_stored(finished, stream, cache, arrays):
    one = quick(stream, cache)
    held = stored.read_stored(scores_of(finished, one))
    rows = rescore.tabulate(held, stream, Truth(arrays, 3)).record()
    record = read(finished, one)
    assert results.plain(rows) == results.plain({part: record[part] for part in rows})
    assert not np.isnan(record["threshold"]["f1"]).any() and not np.isnan(record["pooled"]["pixel_auroc"][-1])
    assert not np.isnan(np.array(record["matrices"]["class_false_alarm"])[np.tri(3, dtype=bool)]).any()


@pytest.mark.parametrize("maps", [True, False], ids=["with maps", "scores only"])
def test_the_maximum_of_the_map_is_a_second_image_score(maps, finished, stream, cache, arrays, tmp_path):
    one = quick(stream, cache, maps=maps)
    root = finished if maps else tmp_path
    if not maps:
        run_cell(one, root)
    held, truth, record = stored.read_stored(scores_of(root, one)), Truth(arrays, 3), read(root, one)
    R = np.array(record["matrices"]["map_max_image_auroc"])
    assert np.isfinite(R[np.tri(3, dtype=bool)]).all() and np.isnan(R[0, 1:]).all()
    assert R[2, 1] == metrics.image_metrics(held.peaks[2, "wood"], truth.labels[1])["image_auroc"]
    assert figures(record)["final_map_max_image_auroc"] == pytest.approx(R[2].mean())
    if maps:
        assert np.array_equal(held.peaks[2, "wood"], held.maps(2, "wood").max(axis=(1, 2)))


def test_cells_of_before_the_maximum_was_kept_go_on_without_it_or_get_it_from_their_maps(
    finished, stream, arrays, cache
):
    one = quick(stream, cache)
    held, truth, old = stored.read_stored(scores_of(finished, one)), Truth(arrays, 3), read(finished, one)
    bare = replace(held, peaks={}, scales={})
    assert "map_max_image_auroc" not in rescore.tabulate(bare, stream, truth).record()["matrices"]
    from_maps = rescore.tabulate(replace(held, peaks={}), stream, truth).record()["matrices"]["map_max_image_auroc"]
    assert np.array_equal(from_maps, old["matrices"].pop("map_max_image_auroc"), equal_nan=True)
    assert np.isnan(figures(old)["final_map_max_image_auroc"])


def test_a_stored_class_can_be_looked_at(finished, stream, cache, arrays):
    held = stored.read_stored(scores_of(finished, quick(stream, cache)))
    assert (held.steps, set(held.scores)) == (3, {(t, name) for t in range(3) for name in stream.classes[: t + 1]})
    assert held.scores[2, "wood"].dtype == np.float32 and held.scores[2, "wood"].shape == (12,)
    assert held.maps(2, "wood").shape == (12, 64, 64) and held.maps(0, "wood") is None
    assert len(held.calibration[1, "gear"]) == 3 and not held.routes


def test_a_new_metric_version_is_a_re_score(bench, tmp_path, monkeypatch):
    bench(*MINI, "--save-maps")
    path = next(tmp_path.glob("results/custom/**/seed-0.json"))
    old = results.read(path)
    monkeypatch.setattr(rescore, "METRIC_VERSION", 2)
    true = scoring.image_metrics

    def halved(scores, labels):
        return {name: value / 2 for name, value in true(scores, labels).items()}

    monkeypatch.setattr(scoring, "image_metrics", halved)
    code, out = bench(*SCORE)
    assert code == 0 and "metrics version 2, numbers moved" in out
    new = results.read(path)
    assert new["key"] != old["key"] and new["spec"] == old["spec"] | {"metric_version": 2}
    assert new["cost"] == old["cost"] and new["environment"] == old["environment"]
    assert np.allclose(new["matrices"]["image_ap"], np.array(old["matrices"]["image_ap"]) / 2, equal_nan=True)
    assert str(new["matrices"]["aupro"]) == str(old["matrices"]["aupro"])
    assert bench(*SCORE)[1].startswith(str(path.relative_to(tmp_path))), "a re-scored cell can be scored again"


def test_pixel_metrics_of_an_old_version_are_not_passed_off_as_new(bench, tmp_path, monkeypatch):
    bench(*MINI)
    path = next(tmp_path.glob("results/custom/**/seed-0.json"))
    monkeypatch.setattr(rescore, "METRIC_VERSION", 2)
    code, out = bench(*SCORE)
    assert code == 2 and "--save-maps" in out and results.read(path)["spec"]["metric_version"] == 1
    assert bench(*SCORE, "--images-only")[0] == 0
    new = results.read(path)
    assert np.isnan(new["matrices"]["aupro"]).all() and not np.isnan(new["matrices"]["image_auroc"][-1]).any()


def test_another_mask_rule_is_a_re_score(finished, stream, cache, arrays):
    from scipy.ndimage import binary_dilation

    grown = replace(arrays, masks=np.stack([binary_dilation(mask) for mask in arrays.masks]))
    one = quick(stream, cache)
    old = read(finished, one)
    new = rescore.rescored(results.cell_path(finished, one.spec), old, stream, Truth(grown, 3))
    assert new["matrices"]["image_auroc"] == results.plain(old["matrices"]["image_auroc"])
    assert new["matrices"]["pixel_ap"][2] != old["matrices"]["pixel_ap"][2]


def test_other_data_scores_of_another_run_and_absent_scores_are_refused(bench, tmp_path):
    bench(*MINI)
    path = next(tmp_path.glob("results/custom/**/seed-0.scores.npz"))
    manifest = tmp_path / "mini.yaml"
    text = manifest.read_text()
    manifest.write_text(text.replace("good: 4", "good: 3"))
    assert "fingerprint" in bench(*SCORE)[1]
    manifest.write_text(text)
    bench(*MINI, "--seeds", "1")
    shutil.copyfile(path.with_name("seed-1.scores.npz"), path)
    code, out = bench(*SCORE)
    assert code == 2 and "is of another run" in out
    path.unlink()
    assert "there are no scores beside" in bench(*SCORE)[1]


@pytest.mark.parametrize("at", ["scores", "checkpoint"])
def test_a_run_that_dies_after_storing_a_step_goes_on_to_the_same_bytes(
    at, finished, stream, cache, tmp_path, monkeypatch
):
    """Between the scores and the checkpoint, or between the checkpoint and the cell file, of the second step."""
    from bench.runner import checkpoint

    one = quick(stream, cache)
    owner, name = (checkpoint, "save") if at == "scores" else (results, "write_cell")
    real, calls = getattr(owner, name), []

    def die(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(owner, name, die)
    monkeypatch.setattr(checkpoint, "QUICK_S", float("inf"))  # on a busy machine a write would be put off
    with pytest.raises(KeyboardInterrupt):
        run_cell(one, tmp_path)
    monkeypatch.undo()
    path = scores_of(tmp_path, one)
    assert segments.file_of(path, 1).exists(), "what was stored is ahead of the cell file"
    events = []
    run_cell(one, tmp_path, events.append)
    assert events[0]["start"] == (1 if at == "scores" else 2)
    assert scores_of(tmp_path, one).read_bytes() == scores_of(finished, one).read_bytes()
    assert results.plain(read(tmp_path, one)["matrices"]) == results.plain(read(finished, one)["matrices"])


@pytest.mark.parametrize("harm", ["gone", "broken", "without maps"])
def test_a_run_whose_scores_are_lost_starts_again(harm, stream, cache, tmp_path):
    def stop_at_three(event):
        if event.get("step") == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_cell(quick(stream, cache, maps=harm != "without maps"), tmp_path, stop_at_three)
    one = quick(stream, cache)
    path = scores_of(tmp_path, one)
    first = segments.file_of(path, 0)
    if harm == "gone":
        first.unlink()
    elif harm == "broken":
        first.write_bytes(first.read_bytes()[:-100])
    events = []
    run_cell(one, tmp_path, events.append)
    assert next(event["start"] for event in events if "start" in event) == 0
    assert stored.read_stored(path).steps == 3 and read(tmp_path, one)["status"] == "ok"
    assert not segments.folder_of(path).exists()


@pytest.mark.parametrize(
    "maps",
    [
        np.random.default_rng(0).normal(0, 1, (3, 8, 8)).astype(np.float32),
        np.full((2, 4, 4), 0.25, np.float32),
        np.linspace(-1e30, 1e30, 32, dtype=np.float32).reshape(2, 4, 4),
        np.exp(np.random.default_rng(0).normal(0, 5, (3, 64, 64))).astype(np.float32),
        np.maximum(np.random.default_rng(0).normal(0, 1, (3, 64, 64)), 0).astype(np.float32),
        np.zeros((0, 4, 4), np.float32),
    ],
    ids=["normal", "constant", "wide", "long tail", "many zeros", "empty"],
)
def test_quantising_turns_no_ranking_round_and_keeps_the_ends_and_what_ties_there(maps):
    codes, scale = stored.quantise(maps)
    back = stored.restore(codes, scale)
    assert (codes.dtype, back.dtype, back.shape) == (np.uint16, np.float32, maps.shape)
    assert 2 <= len(scale) <= 257 and (np.diff(scale) >= 0).all()
    if maps.size:
        order = np.argsort(maps, axis=None, kind="stable")
        assert np.all(np.diff(back.ravel()[order]) >= 0)
        for end in (maps.min(), maps.max()):
            assert np.all(back[maps == end] == end)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_map_that_cannot_be_ranked_is_not_quantised_into_one_that_can(bad):
    with pytest.raises(ValueError, match="NaN or infinite"):
        stored.quantise(np.array([[[0.0, bad]]], np.float32))


SHAPES = {
    "normal": lambda x: x,
    "square": np.square,
    "long tail": lambda x: np.exp(3 * x),
    "very long tail": lambda x: np.exp(6 * x),
    "saturated": lambda x: np.tanh(3 * x),
    "many zeros": lambda x: np.maximum(x, 0),
    "one outlier": lambda x: np.where(x == x.max(), 1e6, x),
}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_quantising_moves_pixel_metrics_by_less_than_is_printed_whatever_the_shape_of_the_scores(shape):
    """Blurred noise with planted defects, at the size of a class of the embedded stream."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(1)
    noise = np.stack([gaussian_filter(rng.normal(0, 1, (64, 64)), 1.5) for _ in range(48)])
    masks = np.zeros(noise.shape, bool)
    masks[::2, 20:30, 20:34] = True
    maps = SHAPES[shape](noise / noise.std() + 1.5 * masks).astype(np.float32)
    labels = metrics.regions(masks)
    exact = metrics.pixel_metrics(maps, labels)
    rough = metrics.pixel_metrics(stored.restore(*stored.quantise(maps)), labels)
    assert 0.1 < exact["pixel_ap"] < 0.95
    assert rough == pytest.approx(exact, rel=0, abs=1e-4, nan_ok=True)


def test_a_method_that_routes_has_its_routes_stored(stream, cache, tmp_path, arrays):
    one = cell(stream, cache, "cl_patchcore", "patchcore")
    run_cell(one, tmp_path)
    held, record = stored.read_stored(scores_of(tmp_path, one)), read(tmp_path, one)
    assert record["status"] == "ok", record["reason"]
    assert held.routes[2, "gear"].dtype == np.int32 and set(held.routes) == set(held.scores)
    assert rescore.tabulate(held, stream, Truth(arrays, 3)).record()["routing_accuracy"].tolist() == list(
        record["routing_accuracy"]
    )


def test_an_archive_that_lost_a_class_or_was_altered_is_refused(bench, tmp_path):
    bench(*MINI, "--holdout", "0.25")
    path = next(tmp_path.glob("results/custom/**/seed-0.json"))
    file, before = stored.scores_path(path), path.read_bytes()
    cell = str(path)
    assert results.read(path)["stored"]["sha256"] == stored.checksum(file)
    assert "no number moved" in bench("score", cell, "--scenario", "mini.yaml")[1]
    with Archive(file) as archive:
        arrays = {name: archive.read(name) for name in archive.entries}
    lost = {name: values for name, values in arrays.items() if not name.startswith("step-1/gear")}
    altered = arrays | {"step-1/gear/scores": arrays["step-1/gear/scores"] + 1}
    for harmed in (lost, altered):
        stored.write_stored(file, harmed.items())
        code, out = bench("score", cell, "--scenario", "mini.yaml")
        assert code == 2 and "is not the file that the cell was written with" in out, out
    old = results.read(path)  # of before checksums were kept
    results.rewrite(path, old | {"stored": {"maps": False, "bytes": 1}})
    stored.write_stored(file, lost.items())
    code, out = bench("score", cell, "--scenario", "mini.yaml")
    assert code == 2 and "lacks the scores of the class 'gear' after step 1" in out, out
    assert path.read_bytes() != before


def test_rows_without_maps_or_calibration_are_empty_not_zero(stream, arrays):
    rows = Rows(stream, Truth(arrays, 3))
    rows.enter(0, {0: Judged(np.arange(12, dtype=np.float32))}, None)
    assert np.isfinite(rows.matrices["image_auroc"][0, 0]) and np.isnan(rows.matrices["aupro"]).all()
    assert np.isnan(rows.threshold["f1"]).all() and np.isnan(rows.routing).all()


def test_a_broken_file_is_told_in_a_sentence(tmp_path):
    with pytest.raises(BadInput, match="there is no file"):
        stored.read_stored(tmp_path / "seed-0.scores.npz")
    (tmp_path / "seed-0.scores.npz").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(BadInput, match="cut short"):
        stored.read_stored(tmp_path / "seed-0.scores.npz")
