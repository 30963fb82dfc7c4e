"""UCAD: what its specification says must hold."""

from dataclasses import replace

import pytest
import torch
from mini import RANDOM, build, train

from bench.api import BadInput, Setup
from bench.data import rows_of
from bench.schema.request import BackboneSpec, Weights
from methods.detectors import prompted_bank
from methods.detectors.prompted_bank import PromptedBank, clusters, contrast

pytestmark = pytest.mark.slow

VIT = BackboneSpec("test_vit", Weights("random", "seed 0"))


@pytest.fixture(scope="module")
def pictures():
    return torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def detector(backbone=VIT, **options) -> PromptedBank:
    torch.manual_seed(0)
    return PromptedBank(replace(prompted_bank.Config.tiny(), **options), Setup(64, 0, "cpu", backbone))


def test_blocks_without_a_prefix_are_the_networks_own(pictures):
    made = detector()
    tokens = made.encoder.enter(pictures)
    for block in made.encoder.trunk:
        tokens = prompted_bank._through(block, tokens, None)
    assert torch.allclose(tokens[:, 1:], made.embed(pictures, None), atol=1e-5)


@pytest.mark.parametrize("backbone", [VIT, RANDOM], ids=lambda spec: spec.name)
def test_training_moves_the_prompt_and_nothing_else(backbone, pictures):
    made = detector(backbone)
    before = {name: value.clone() for name, value in made.state_dict().items()}
    optimizer = made.optimizer()
    for _ in range(2):
        optimizer.zero_grad()
        made.loss(pictures).backward()
        optimizer.step()
    moved = [name for name, value in made.state_dict().items() if not torch.equal(value, before[name])]
    assert moved == ["prompt"]
    assert not torch.equal(made.embed(pictures, made.prompt), made.embed(pictures, None))


def test_the_loss_falls_where_a_region_agrees_and_regions_differ():
    alike = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]])[None]
    regions = torch.tensor([[0, 0, 1, 1]])
    assert contrast(alike, regions, 0.5) < contrast(alike[:, [0, 2, 1, 3]], regions, 0.5)
    expected = (8 * -2.0 + 8 * torch.tensor(-2.0).exp()) / 16  # same: -1 / 0.5; different: exp(-1 / 0.5)
    assert contrast(alike, regions, 0.5) == pytest.approx(float(expected))


def test_clusters_find_groups_that_are_apart():
    torch.manual_seed(0)
    points = torch.cat([torch.randn(10, 3) * 0.1 + 5 * i for i in range(3)])
    found = clusters(points, 3).view(3, 10)
    assert (found == found[:, :1]).all() and len(found[:, 0].unique()) == 3


def test_without_prompts_key_and_bank_are_alike_and_nothing_is_learned(pictures):
    made = detector(prompts=False)
    assert made.optimizer() is None and not made.loss(pictures).requires_grad
    made.consolidate([pictures])
    assert made.key.sort(0)[0].equal(made.bank.sort(0)[0])
    assert made.take_memory()["prompt"].numel() == 0


def test_an_absent_segmenter_is_said_at_once():
    with pytest.raises(BadInput, match="no SAM model 'nowhere/at-all'"):
        detector(regions="nowhere/at-all")


def test_routed_right_rows_of_r_are_constant_in_time(stream, arrays):
    strategy = build("ucad", "prompted_bank")
    images = torch.from_numpy(arrays.images[rows_of(arrays, [0], train=False)]).movedim(-1, 1).float() / 255
    said = []
    for step in range(2):
        train(strategy, stream, arrays, method="ucad", first=step, last=step + 1)
        strategy.model.eval()
        memories = strategy.methods[0].memories
        strategy.model.route_to(memories[:1])
        with torch.no_grad():
            said.append(strategy.model.predict(images))
        strategy.model.route_to(memories)
    assert not torch.equal(memories[0]["prompt"], memories[1]["prompt"])
    assert torch.equal(said[0].score, said[1].score) and torch.equal(said[0].map, said[1].map)
