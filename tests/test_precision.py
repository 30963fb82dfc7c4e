"""bfloat16 inside networks: nothing else is, the numbers stay, and rows of both never read alike."""

import copy

import numpy as np
import pytest
import torch
from command import BASE, MINI
from mini import build, scores, train
from torch import nn

from bench import data, registry, results
from bench.contract import trial
from bench.metrics.ranking import image_metrics
from bench.schema.request import PROCEDURAL, TINY_BACKBONE, BackboneSpec, Weights
from bench.schema.stream import Stream
from bench.training import precision
from bench.training.experiences import as_float

pytestmark = pytest.mark.slow

ABLE = [name for name, entry in registry.found_entries("detector").items() if "bfloat16" in entry.declared["TRAITS"]]
TOLERANCE = 0.002


def reduced(detector: str, method: str = "finetune"):
    strategy = build(method, detector)
    precision.reduce(strategy.model, "bfloat16")
    return strategy


@pytest.fixture(scope="module")
def batch(arrays):
    return as_float(torch.from_numpy(arrays.images[:4].copy()))


@pytest.mark.parametrize("name", ABLE)
def test_layers_compute_in_bfloat16_and_all_around_them_in_float32(name, batch):
    detector, seen = reduced(name).model, {}
    for layer in detector.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            layer.register_forward_hook(lambda layer, _, output: seen.update({layer: output.dtype}), prepend=True)
    detector.prepare([batch])
    optimizer = detector.optimizer()
    loss = detector.loss(batch)
    loss.backward()
    optimizer.step()
    assert seen and set(seen.values()) == {torch.bfloat16}, "a network is not among `networks()`"
    assert loss.dtype == torch.float32
    assert {weight.dtype for weight in detector.parameters()} == {torch.float32}
    assert {w.grad.dtype for w in detector.parameters() if w.grad is not None} == {torch.float32}
    assert {part.dtype for part in detector.response(batch)} == {torch.float32}
    said = detector.eval().predict(batch)
    assert said.score.dtype == said.map.dtype == torch.float32
    assert len(said.score.unique()) == len(batch), "scores of bfloat16 would tie"
    assert not torch.is_autocast_enabled("cpu")


def test_a_network_that_fails_leaves_no_autocast_behind():
    detector = reduced("autoencoder").model
    with pytest.raises(RuntimeError):
        detector.loss(torch.rand(2, 5, 64, 64))
    assert not torch.is_autocast_enabled("cpu") and not precision._entered


def test_a_copy_computes_with_weights_of_its_own(batch):
    detector = reduced("autoencoder").model.eval()
    other = copy.deepcopy(detector)
    with torch.no_grad():
        for weight in other.parameters():
            weight.zero_()
        assert not torch.equal(other.predict(batch).map, detector.predict(batch).map)


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """One class, plain to see, with so many test images that a few swaps of two do not move the AUROC."""
    options = {"train": 24, "good": 150, "anomalous": 150, "difficulty": 0.0}
    stream = Stream("synthetic/one", 1, "synthetic", (("gear",),), 64, options, "tests")
    return stream, data.load_arrays(stream, None, 64, tmp_path_factory.mktemp("cache"))[0]


def learned(name: str, monkeypatch):
    """A detector of the tiny size as users get it: on the project's own features, for all of its epochs."""
    spec = BackboneSpec(TINY_BACKBONE, Weights("procedural", file=str(PROCEDURAL)))
    monkeypatch.setattr(trial, "RANDOM", spec)
    monkeypatch.setattr(trial, "quick", lambda entry: {})
    return build("finetune", name)


@pytest.mark.parametrize("name", ["stfpm", "invad"])
def test_the_same_weights_rank_images_the_same(name, single, monkeypatch):
    stream, arrays = single
    strategy = learned(name, monkeypatch)
    train(strategy, stream, arrays)
    exact = auroc(strategy, arrays)
    precision.reduce(strategy.model, "bfloat16")
    assert abs(auroc(strategy, arrays) - exact) <= TOLERANCE


def auroc(strategy, arrays) -> float:
    rows = np.flatnonzero(~arrays.train)
    found = scores(strategy, arrays, rows).numpy()
    return image_metrics(found, arrays.labels[rows])["image_auroc"]


@pytest.mark.parametrize("method", ["replay", "lwf", "ewc", "der", "agem", "latent_replay", "gradient_projection"])
def test_methods_around_it_work(method, stream, arrays):
    strategy = reduced("autoencoder", method)
    train(strategy, stream, arrays, method=method, last=2)
    assert all(torch.isfinite(weight).all() for weight in strategy.model.parameters())


def test_another_precision_is_another_cell_and_says_so(bench, tmp_path):
    assert bench(*MINI)[0] == 0
    assert "1 of 1 cells would run" in bench(*MINI, "--precision", "bfloat16", "--plan")[1]
    code, out = bench(*MINI, "--precision", "bfloat16", "--keep")
    assert code == 0, out
    assert "0 of 1 cells would run" in bench(*MINI, "--precision", "bfloat16", "--plan")[1]
    assert "0 of 1 cells would run" in bench(*MINI, "--precision", "float32", "--plan")[1]
    paths = sorted(tmp_path.glob("results/custom/**/seed-0.json"))
    found = [results.read(path) for path in paths]
    assert [one["status"] for one in found] == ["ok", "ok"]
    assert {one["spec"].get("precision") for one in found} == {None, "bfloat16"}
    assert len({one["key"] for one in found}) == 2
    half = next(path for path in paths if "bfloat16" in str(path))
    assert bench("figure", half, "--scenario", "mini.yaml", "--class", "gear")[0] == 0, "the kept cell is built alike"
    table = (tmp_path / "results/tables/custom-mini-1.md").read_text()
    assert "| finetune (precision=bfloat16)" in table and "| finetune " in table


def test_a_detector_that_cannot_is_skipped_with_a_sentence(bench):
    code, out = bench(*BASE[:3], "--detectors", "padim", *BASE[5:], "--precision", "bfloat16")
    assert code == 0 and "0 cells ran" in out
    assert "padim computes in float32 only" in out and "`bench list detectors` names those" in out
    assert bench(*MINI, "--precision", "float16")[0] == 2
