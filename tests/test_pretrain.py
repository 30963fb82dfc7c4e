"""The small feature network: the shipped weights fit, and the command that makes them is reproducible."""

import numpy as np
import pytest
import timm
from safetensors import safe_open
from safetensors.torch import load_file

from pretraining import features
from pretraining.procedural import marked, material, mosaic, palettes

pytestmark = pytest.mark.slow


def test_the_shipped_weights_fit_the_architecture_and_say_how_they_came_about():
    network = timm.create_model(features.ARCHITECTURE, num_classes=0)
    network.load_state_dict(load_file(features.WEIGHTS), strict=True)
    assert features.WEIGHTS.stat().st_size < 4e6
    with safe_open(features.WEIGHTS, "pt") as file:
        about = file.metadata()
    assert about["architecture"] == features.ARCHITECTURE
    assert int(about["steps"]) == features.STEPS
    assert float(about["seed"]) >= 0


def test_strides_are_those_that_the_detectors_ask_for():
    network = timm.create_model(features.ARCHITECTURE, features_only=True, out_indices=(1, 2, 3))
    assert network.feature_info.reduction() == [4, 8, 16]


def test_two_steps_run_and_give_the_same_weights_again(tmp_path, monkeypatch):
    steps = 2
    monkeypatch.setattr(features, "MATERIALS", 8)
    monkeypatch.setattr(features, "BATCH", 16)
    said = []
    paths = [tmp_path / f"{i}.safetensors" for i in range(3)]
    runs = [features.features(path, i // 2, steps, said.append) for i, path in enumerate(paths)]
    first, again, other = map(load_file, paths)
    assert runs[0] == runs[1]
    assert all((first[name] == again[name]).all() for name in first)
    assert any((first[name] != other[name]).any() for name in first)
    assert any(f"step {steps}/{steps}" in line for line in said)


def test_materials_and_mosaics_are_seeded_and_marks_are_where_they_say():
    def draw(seed: int):
        rng = np.random.default_rng(seed)
        bank = np.stack([material(rng, 96, palette) * 255 for palette in palettes(rng, 6)]).astype(np.uint8)
        image, label = mosaic(rng, bank, 64)
        return image, label, *marked(rng, image)

    for seed in range(8):
        image, label, painted, marks = draw(seed)
        assert all(np.array_equal(a, b) for a, b in zip((image, label, painted, marks), draw(seed), strict=True))
        assert not ((painted != image).any(axis=2) & (marks == 0)).any()
        assert label.min() >= 0
        assert label.max() < 6
