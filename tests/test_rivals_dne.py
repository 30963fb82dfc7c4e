"""DNE, and what an image-level system is to the bench: image metrics, and nothing where maps would be needed."""

import math

import pytest
import torch
from mini import build, cell, quick, read, train

from bench import registry
from bench.data import rows_of
from bench.runner import run_cell
from methods.detectors.cutpaste_vit import cut_paste
from methods.dne import sample

pytestmark = pytest.mark.slow


def test_a_system_without_maps_has_image_metrics_and_no_pixel_metrics(stream, cache, tmp_path):
    entry = registry.find_entry("detector", "cutpaste_vit")
    planned = cell(stream, cache, "finetune", "cutpaste_vit", overrides={entry.name: quick(entry)})
    run_cell(planned, tmp_path, lambda event: None)
    record = read(tmp_path, planned)
    assert record["status"] == "ok", record["reason"]
    matrices = record["matrices"]
    last = {name: matrix[-1] for name, matrix in matrices.items()}
    assert all(value == value for value in last["image_auroc"])
    for name in ("pixel_auroc", "pixel_ap", "pixel_f1max", "aupro"):
        assert all(value is None or math.isnan(value) for value in last[name]), name


def test_samples_have_the_moments_that_were_kept():
    torch.manual_seed(0)
    root = torch.randn(4, 4)
    step = {"count": 200_000, "mean": torch.arange(4.0), "covariance": root @ root.T}
    drawn = sample(step)
    assert torch.allclose(drawn.mean(0), step["mean"], atol=0.05)
    assert torch.allclose(torch.cov(drawn.T), step["covariance"], atol=0.15)


def test_a_pasted_patch_changes_a_small_part_only():
    torch.manual_seed(0)
    images = torch.rand(8, 3, 64, 64)
    changed = (cut_paste(images) != images).any(1).float().mean((1, 2))
    assert (changed > 0.005).all() and (changed <= 0.16).all()


def test_the_head_is_frozen_after_the_first_step_and_statistics_replay(stream, arrays):
    strategy = build("dne", "cutpaste_vit")
    train(strategy, stream, arrays, method="dne", last=1)
    head = strategy.model.head.weight.detach().clone()
    first = {name: value.clone() for name, value in strategy.methods[0].steps[0].items() if name != "count"}
    train(strategy, stream, arrays, method="dne", first=1, last=2)
    (plugin,) = strategy.methods
    assert torch.equal(strategy.model.head.weight, head)
    assert all(torch.equal(plugin.steps[0][name], value) for name, value in first.items())
    assert [step["count"] for step in plugin.steps] == [12, 12]
    strategy.model.eval()
    images = torch.from_numpy(arrays.images[rows_of(arrays, [0], train=False)]).movedim(-1, 1).float() / 255
    with torch.no_grad():
        found = strategy.model.predict(images)
    assert found.map is None and found.score.isfinite().all() and found.score.std() > 0
