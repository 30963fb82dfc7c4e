"""Published systems that keep banks of tokens: what their specifications say must hold exactly."""

from dataclasses import replace

import pytest
import torch
from mini import RANDOM, build, config_of, setup_for, train

from bench import registry
from bench.api import BadInput, Setup
from bench.data import rows_of
from bench.schema.request import BackboneSpec, Weights
from bench.training.backbone_fit import unfit
from bench.training.tokens import MapTokens, Tokens
from methods import cadic, gcr, replay
from methods._quota import Quota
from methods.detectors import position_bank, token_bank
from methods.detectors.patchcore.coreset import greedy_centres

pytestmark = pytest.mark.slow

VIT = BackboneSpec("test_vit", Weights("random", "seed 0"))


@pytest.fixture(scope="module")
def pictures():
    return torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def test_the_last_block_with_norm_is_what_the_network_gives_out(pictures):
    tokens = Tokens(VIT, 1, blocks=(-1,), norm=True)
    found = tokens(pictures)
    whole = tokens.net.forward_features((pictures - tokens.mean) / tokens.std)
    assert list(found) == [f"blocks.{len(tokens.net.blocks) - 1}.norm"]
    assert torch.equal(found[tokens.layers[0]], whole)
    token, grid = tokens.grid(pictures)
    assert torch.equal(token, whole[:, 0]) and torch.equal(grid.flatten(2).transpose(1, 2), whole[:, 1:])


def test_chosen_blocks_are_those_in_the_middle_when_so_chosen(pictures):
    middle = Tokens(VIT, 2)
    chosen = Tokens(VIT, 1, blocks=middle.blocks)
    assert chosen.layers == middle.layers
    assert all(torch.equal(a, b) for a, b in zip(chosen(pictures).values(), middle(pictures).values(), strict=True))
    with pytest.raises(BadInput, match="no block 99"):
        Tokens(VIT, 1, blocks=(99,))


def test_without_a_class_token_the_mean_of_all_places_stands_for_it(pictures):
    token, grid = MapTokens(RANDOM).grid(pictures)
    assert torch.allclose(token, grid.mean((2, 3)), atol=1e-6)


def test_what_a_backbone_does_not_offer_is_said_without_its_weights():
    def asked(name: str, **options) -> str:
        module = registry.find_entry("detector", name).load()
        return unfit(module, replace(module.Config.tiny(), **options), 64, VIT)

    assert asked("patchcore") == "backbone 'test_vit' has no features at stride 4; it offers [16, 16, 16]."
    assert "so no block 40" in asked("token_bank", blocks=(40,))
    assert asked("token_bank") == asked("dinomaly") == ""


def bank_of(**options) -> token_bank.TokenBank:
    torch.manual_seed(0)
    return token_bank.TokenBank(replace(token_bank.Config.tiny(), **options), Setup(64, 0, "cpu", VIT))


def learned(detector, pictures):
    detector.loss(pictures)
    detector.consolidate([])
    return detector.eval()


def test_a_token_in_the_bank_has_distance_zero(pictures):
    for options in ({}, {"distance": "cosine"}, {"projection": 1}):
        found = learned(bank_of(head="max", sigma=0, **options), pictures).predict(pictures)
        assert found.score.abs().max() < 2e-2, options


def test_energy_of_a_bank_of_equal_tokens_is_half_the_squared_distance(pictures):
    """a = log K - log sum exp(-d^2 / 2): with K equal distances, d^2 / 2."""
    mixture, plain = (bank_of(head="max", sigma=0, energy=energy) for energy in (4, 0))
    for detector in (mixture, plain):
        detector.bank = torch.zeros(4, detector.encoder.dimension)
    assert torch.allclose(mixture.predict(pictures).score, plain.predict(pictures).score ** 2 / 2, rtol=1e-4)


def test_soft_projection_on_equal_tokens_is_the_distance(pictures):
    soft, plain = (bank_of(head="max", sigma=0, projection=count) for count in (3, 0))
    for detector in (soft, plain):
        detector.bank = torch.ones(3, detector.encoder.dimension)
    assert torch.allclose(soft.predict(pictures).score, plain.predict(pictures).score, rtol=1e-4)


def test_heads(pictures):
    largest = learned(bank_of(head="max"), pictures[:2]).predict(pictures[2:])
    top = learned(bank_of(head="top_patches", top=1e-9), pictures[:2]).predict(pictures[2:])
    weighed = learned(bank_of(head="reweighted"), pictures[:2]).predict(pictures[2:])
    assert torch.equal(top.score, largest.score)
    assert (weighed.score < largest.score).all() and (weighed.score > 0).all()
    with pytest.raises(BadInput, match="no head 'median'"):
        bank_of(head="median")


def test_an_unlimited_window_is_one_bank_for_all_places():
    torch.manual_seed(0)
    tokens, bank = torch.randn(3, 4, 5), torch.randn(3, 4, 2, 5)
    every = torch.cdist(tokens.view(-1, 5), bank.view(-1, 5)).amin(1).view(3, 4)
    assert torch.allclose(position_bank.nearest_in_window(tokens, bank, 13), every, atol=1e-5)


def test_no_window_and_all_images_is_the_nearest_at_each_place():
    torch.manual_seed(0)
    tokens, images = torch.randn(3, 4, 5), torch.randn(6, 3, 4, 5)
    bank = position_bank.centres_per_place(images.permute(1, 2, 0, 3).reshape(12, 6, 5), 6).view(3, 4, 6, 5)
    nearest = (images - tokens).norm(dim=-1).amin(0)
    assert torch.allclose(position_bank.nearest_in_window(tokens, bank, 0), nearest, atol=1e-5)


def test_fewer_images_than_the_least_are_all_kept(pictures):
    detector = position_bank.PositionBank(position_bank.Config.tiny(), Setup(64, 0, "cpu", VIT))
    assert learned(detector, pictures).bank.shape[2] == len(pictures)


@pytest.mark.parametrize("method, detector", [("gcr", "token_bank"), ("dinosaur", "position_bank")])
def test_routed_right_rows_of_r_are_constant_in_time(method, detector, stream, arrays):
    """Memories never change: what a step's own memory says of its class is the same after every later step."""
    strategy = build(method, detector)
    images = torch.from_numpy(arrays.images[rows_of(arrays, [0], train=False)]).movedim(-1, 1).float() / 255
    said = []
    for step in range(2):
        train(strategy, stream, arrays, method=method, first=step, last=step + 1)
        strategy.model.eval()
        strategy.model.route_to(strategy.methods[0].memories[:1])
        said.append(strategy.model.predict(images))
        strategy.methods[0].route(strategy.methods[0].memories)
    assert torch.equal(said[0].score, said[1].score) and torch.equal(said[0].map, said[1].map)


def test_gcr_with_all_places_sums_their_squares():
    distances = torch.rand(2, 3, 10)
    everything = gcr.sum_of_squares(distances, positions=0, seed=0)
    some = [gcr.sum_of_squares(distances, positions=4, seed=seed) for seed in (0, 0, 1)]
    assert torch.allclose(everything, distances.square().sum(-1))
    assert torch.equal(some[0], some[1]) and not torch.equal(some[0], some[2])


def radius(points, centres) -> float:
    return float(torch.cdist(points, centres).amin(1).max())


def test_an_incremental_coreset_covers_within_twice_the_radius_of_one_from_scratch():
    torch.manual_seed(0)
    steps = [torch.randn(200, 4) + shift for shift in (0.0, 4.0, 8.0)]
    taken = iter(steps)

    class Detector:
        def take_bank(self):
            return next(taken)

        def thin(self, bank, count):
            return bank[greedy_centres(bank, min(count, len(bank)))]

        def judge_by(self, bank):
            pass

    plugin = cadic.CarriedBank(Detector(), lambda _: 40)
    for _ in steps:
        plugin.after_training_exp(None)
    everything = torch.cat(steps)
    assert len(plugin.bank) == 40
    scratch = everything[greedy_centres(everything, 40)]
    assert radius(everything, plugin.bank) <= 2 * radius(everything, scratch)


def test_a_reservoir_gives_every_step_an_equal_share():
    class Detector:
        step = 0

        def take_bank(self):
            self.step += 1
            return torch.full((50, 1), float(self.step))

        def judge_by(self, bank):
            pass

    plugin = cadic.Reservoir(Detector(), 30)
    for _ in range(3):
        plugin.after_training_exp(None)
    assert len(plugin.bank) == 30
    assert int((plugin.bank == 3).sum()) == 10


def test_replay_per_class_keeps_as_many_of_each_class_however_many_there_are():
    memory = Quota(replay.Config().memory, per_class=5)
    for category in range(3):
        memory.admit({category: torch.zeros(8, 3, 4, 4, dtype=torch.uint8)})
    memory.admit({3: torch.zeros(2, 3, 4, 4, dtype=torch.uint8)})  # fewer than the quota: all of them
    assert [len(items) for items in memory.kept.values()] == [5, 5, 5, 2]


@pytest.mark.parametrize("method", ["replay", "joint", "cumulative", "single", "cl_patchcore", "finetune", "cadic"])
def test_methods_run_on_tokens_of_a_transformer(method, stream, arrays):
    entry = registry.find_entry("detector", "token_bank")
    assert setup_for(entry).backbone.name == "test_vit" and config_of(entry).blocks
    strategy = build(method, "token_bank")
    train(strategy, stream, arrays, method=method, last=2)
    strategy.model.eval()
    if method == "single":
        strategy.methods[0]._recall(strategy.methods[0].trained[0])
    images = torch.from_numpy(arrays.images[rows_of(arrays, [0], train=False)]).movedim(-1, 1).float() / 255
    found = strategy.model.predict(images)
    assert found.score.isfinite().all() and found.map.std() > 0
    assert (found.route is not None) == (method == "cl_patchcore")
