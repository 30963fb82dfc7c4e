"""AMN diffusion and One-for-More: the mask, the way of the condition, what is trained, and the paper's scenarios."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from mini import RANDOM, cell, read
from priors import FACTOR, SIZE, stable_diffusion
from torch import nn
from trees import tree, visa_tree

from bench.api import BadInput, Setup
from bench.runner import run_cell
from bench.schema import stream as streams
from methods.detectors import amn_diffusion
from methods.detectors.amn_diffusion.corruption import _patch, corrupted, paste_patches
from methods.detectors.amn_diffusion.masked import AnomalyMasked, Layer, position_code, visible

SMALL = {"stem": (4, 4, 8, 8, 8, 8, 8), "layers": 1, "heads": 2, "hidden": 16, "neighbourhood": 3}
SCENARIOS = ["mvtec/14-1", "mvtec/10-5", "mvtec/3x5", "mvtec/10-1x5", "visa/11-1", "visa/8-4", "visa/8-1x4"]


@pytest.fixture(scope="session")
def prior(tmp_path_factory) -> Path:
    return stable_diffusion(tmp_path_factory.mktemp("prior"))


def build(prior: Path, seed: int = 0, **options) -> amn_diffusion.AmnDiffusion:
    torch.manual_seed(seed)
    config = dataclasses.replace(amn_diffusion.Config.tiny(), model=str(prior), **SMALL | {"steps": 2} | options)
    return amn_diffusion.build(config, Setup(SIZE, seed, backbone=RANDOM))


@pytest.fixture(scope="module")
def detector(prior):
    return build(prior)


def test_a_place_sees_neither_itself_nor_its_neighbours():
    seen = visible(8, 7).view(8, 8, 8, 8)  # row, column -> row, column
    assert not seen[0, 0, :4, :4].any()
    assert seen[0, 0].sum() == 64 - 16
    assert not seen[4, 4, 1:8, 1:8].any()
    assert seen[4, 4].sum() == 64 - 49
    assert not visible(5, 1).diagonal().any()
    assert visible(5, 1).sum() == 25 * 24
    with pytest.raises(BadInput, match="neighbourhood=7 hides all of the 4 x 4 places"):
        visible(4, 7)


def test_a_change_of_one_place_does_not_reach_its_neighbours_within_a_layer():
    torch.manual_seed(0)
    layer = Layer(16, 2, 8, 0.0)
    tokens, position, mask = torch.randn(1, 64, 16), position_code(8, 16), visible(8, 3)
    changed = tokens.clone()
    changed[0, 8 * 4 + 4] += 1
    moved = (layer(changed, position, mask) - layer(tokens, position, mask))[0].abs().amax(1).view(8, 8) > 1e-7
    assert moved[4, 4]  # past the attention
    assert moved[3:6, 3:6].sum() == 1
    assert moved.sum() == 64 - 8


def test_places_have_codes_of_their_own():
    code = position_code(8, 32)
    assert code.shape == (64, 32)
    assert torch.cdist(code, code).fill_diagonal_(1).min() > 0.1


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_at_paper_size_it_has_the_papers_parameters():
    config = amn_diffusion.Config()
    with torch.device("meta"):
        masked = AnomalyMasked(config.stem, 320, 8, 32, config.layers, config.heads, config.hidden, 7, config.dropout)
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
        packed = nn.MultiheadAttention(320, 8)
    assert count(masked.stem) == 1_085_616
    assert count(masked.layers) == 8_556_040
    separate = masked.layers[0]
    assert count(packed) == sum(count(part) for part in (separate.query, separate.key, separate.value, separate.out))
    assert [m.stride[0] for m in masked.stem if isinstance(m, nn.Conv2d)] == [1, 1, 2, 1, 2, 1, 2, 1]
    amn_diffusion._hold(unet)
    trained = {name: p for name, p in unet.named_parameters() if p.requires_grad}
    assert count(unet) == pytest.approx(859.5e6, rel=1e-4)
    assert len(trained) == 258
    assert sum(p.numel() for p in trained.values()) == pytest.approx(831.2e6, rel=1e-3)
    full = sum(4 * p[0].numel() ** 2 for p in trained.values())
    assert full == pytest.approx(28.0e9, rel=0.01)  # bytes of all bases at full rank


def test_the_condition_reaches_the_trunk_and_the_first_skip(detector):
    detector.eval()
    unet, seen = detector.model.unet, {}

    def trunk(_module, args, kwargs):
        seen["trunk"] = args[0] if args else kwargs["hidden_states"]

    def skip(_module, _args, kwargs):
        seen["skip"] = kwargs["res_hidden_states_tuple"][0]  # the last to be used is what conv_in made

    handles = [
        unet.down_blocks[0].register_forward_pre_hook(trunk, with_kwargs=True),
        unet.up_blocks[-1].register_forward_pre_hook(skip, with_kwargs=True),
    ]
    noised, t = torch.randn(1, 4, 4, 4), torch.tensor(5)
    try:
        found = []
        for strength in (0.0, 1.0):
            condition = torch.full((1, unet.config.block_out_channels[0], 4, 4), strength)
            with torch.no_grad():
                detector._predict(noised, t, condition)
            found.append(dict(seen))
    finally:
        for handle in handles:
            handle.remove()
    for part in ("trunk", "skip"):
        assert torch.allclose(found[1][part] - found[0][part], torch.ones(1), atol=1e-5)
    assert detector.condition is None


def test_frozen_names_stay_and_the_rest_learns(prior):
    detector = build(prior)
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    optimizer = detector.optimizer()
    for group in optimizer.param_groups:
        group["lr"] = 1e-2
    detector.train()
    for _ in range(2):
        optimizer.zero_grad()
        detector.loss(torch.rand(2, 3, SIZE, SIZE)).backward()
        optimizer.step()
    moved = {name for name, value in detector.state_dict().items() if not torch.equal(value, before[name])}
    names = {name for name, _ in detector.model.unet.named_parameters()}
    held = {n for n in names if any(p in n for p in ("time_embedding", "time_emb_proj", "norm", "bias"))}
    assert moved == {f"model.unet.{n}" for n in names - held} | {
        f"masked.{n}" for n, _ in detector.masked.named_parameters()
    }


def test_both_losses_count(detector, monkeypatch):
    image = torch.rand(2, 3, SIZE, SIZE)
    detector.eval()
    torch.manual_seed(0)
    both = detector.loss(image)
    torch.manual_seed(0)
    monkeypatch.setattr(detector.masked, "forward", lambda x: detector.masked.stem(2 * image - 1))
    alone = detector.loss(image)
    assert both != alone
    both.backward()
    assert detector.masked.stem[0].weight.grad.abs().sum() > 0


def test_a_prediction_is_the_same_again_and_alone(detector):
    detector.eval()
    image = torch.rand(3, 3, SIZE, SIZE)
    with torch.no_grad():
        one, two, alone = detector.predict(image), detector.predict(image), detector.predict(image[1:2])
    assert torch.equal(one.map, two.map)
    assert torch.allclose(one.map[1:2], alone.map, atol=1e-4 * one.map.max().item())
    assert one.map.shape == (3, 1, SIZE, SIZE)


def test_an_image_is_made_anew_in_ten_steps_from_nearly_pure_noise(prior):
    """DDIM without noise of its own, equation 12 of Song et al. (arXiv:2010.02502), under the image's own condition."""
    detector = build(prior, steps=amn_diffusion.Config().steps).eval()
    image, left = torch.rand(2, 3, SIZE, SIZE), detector.model.scheduler.alphas_cumprod
    with torch.no_grad():
        latents, condition = detector._latents(image), detector.masked(2 * image - 1)
        made = left[999].sqrt() * latents + (1 - left[999]).sqrt() * detector.draws[1]
        for t in (901, 801, 701, 601, 501, 401, 301, 201, 101, 1):  # the first takes what time 999 left for 901
            with detector.conditioned(condition):
                context = detector.context.expand(2, -1, -1)
                noise = detector.model.unet(made, t, encoder_hidden_states=context).sample
            clean = (made - (1 - left[t]).sqrt() * noise) / left[t].sqrt()
            after = left[max(t - 100, 0)]
            made = after.sqrt() * clean + (1 - after).sqrt() * noise
        assert torch.allclose(detector._remade(image, latents), made, atol=1e-4 * made.abs().max().item())
        assert torch.allclose(detector.reconstruct(image), detector.model.decode(made), atol=1e-3)


def test_as_released_the_networks_see_imagenets_range_and_what_they_make_comes_back(prior):
    usual, released = build(prior).eval(), build(prior, imagenet_range=True).eval()
    assert usual.state_dict().keys() == released.state_dict().keys(), "a state fits either"
    mean, deviation = (torch.tensor(value).view(1, 3, 1, 1) for value in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    image, seen = torch.rand(2, 3, SIZE, SIZE), {}
    for detector in (usual, released):
        detector.masked.register_forward_pre_hook(
            lambda _, given, own=detector: seen.setdefault(own, []).append(given[0])
        )
        detector.model.vae.encode = lambda given, own=detector, made=detector.model.vae.encode: (
            seen[own].append(given) or made(given)
        )
        with torch.no_grad():
            detector.response(image)
    torch.testing.assert_close(torch.stack(seen[released]), ((image - mean) / deviation).expand(2, -1, -1, -1, -1))
    assert all(torch.equal(given, 2 * image - 1) for given in seen[usual])
    latents = torch.randn(1, 4, SIZE // FACTOR, SIZE // FACTOR)
    with torch.no_grad():
        value = released.model.vae.decode(latents / released.model.vae.config.scaling_factor).sample
        torch.testing.assert_close(released._decoded(latents), value * deviation + mean)


def test_as_released_the_inputs_of_layers_are_recorded_under_corrupted_conditions(prior):
    image = torch.rand(3, 3, 8, 8).repeat_interleave(SIZE // 8, 2).repeat_interleave(SIZE // 8, 3)
    for asked in (False, True):
        detector, hints = build(prior, corrupted_hints=asked).eval(), []
        detector.masked.register_forward_pre_hook(lambda _, given, hints=hints: hints.append((given[0] + 1) / 2))
        torch.manual_seed(3)
        with torch.no_grad():
            detector.replay_forward(image)
            detector.predict(image)
        changed = [((hint - image).abs() > 0.02).flatten(1).any(1).sum().item() for hint in hints]
        assert (changed[0] > 0) == asked
        assert changed[1] == 0, "a test image is taken as it is"


def test_another_seed_is_another_noise(prior):
    assert not torch.equal(build(prior).draws, build(prior, seed=1).draws)
    assert build(prior).draws.shape == (2, 1, 4, SIZE // FACTOR, SIZE // FACTOR)


def test_patches_are_pasted_and_follow_the_seed():
    images = torch.rand(6, 3, 8, 8).repeat_interleave(8, 2).repeat_interleave(8, 3)
    torch.manual_seed(3)
    one = corrupted(images, 1.0, False)
    torch.manual_seed(3)
    assert torch.equal(one, corrupted(images, 1.0, False))
    changed = ((one - images).abs() > 0.02).any(1).flatten(1).float().mean(1)
    assert ((changed > 0) & (changed < 1)).sum() >= 5
    assert torch.allclose(corrupted(images, 0.0, True), images, atol=1 / 255)


def test_no_side_of_a_patch_is_longer_than_the_bound_and_its_shape_is_that_of_the_crop():
    """They were up to twice as long: a mean area of .145 of the image, where the authors' patches have .074."""
    rng, picture = np.random.default_rng(0), np.zeros((256, 256, 3), np.uint8)
    sizes = np.array([_patch(picture, rng).shape[:2] for _ in range(500)])
    assert sizes.max() == int(0.4 * 256)
    assert (sizes.max(1) > 90).mean() > 0.1
    assert 0.02 < (sizes.prod(1) / 256**2).mean() < 0.09


def test_a_patch_may_come_from_another_image():
    flat = np.full((64, 64, 3), 128, np.uint8)
    striped = np.tile(np.array([[0], [255]], np.uint8).repeat(2, 0), (16, 64))[..., None].repeat(3, 2)
    rng = np.random.default_rng(0)
    assert np.abs(paste_patches(flat, flat, rng).astype(int) - flat).max() <= 1  # OpenCV's rounding
    assert paste_patches(flat, striped, rng).std() > 1


@pytest.mark.parametrize(
    ("options", "size", "sentence"),
    [
        ({"model": "no/such-model"}, SIZE, "amn_diffusion.model=no/such-model"),
        ({"neighbourhood": 4}, SIZE, "neighbourhood=4 has no centre"),
        ({"stem": (4, 4)}, SIZE, r"stem=\(4, 4\) is too short to halve 3 times"),
        ({}, SIZE + 8, "a multiple of 16 px, not of 40"),
    ],
)
def test_what_does_not_fit_is_named(prior, options, size, sentence):
    with pytest.raises(BadInput, match=sentence):
        config = dataclasses.replace(amn_diffusion.Config.tiny(), **{"model": str(prior)} | SMALL | options)
        amn_diffusion.build(config, Setup(size, 0, backbone=RANDOM))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("data")
    classes = {
        name: sorted(streams.load_stream(f"{name}/{size}").classes)
        for name, size in (("mvtec", "3x5"), ("visa", "8-4"))
    }
    return {
        "mvtec": tree(root / "mvtec", tuple(classes["mvtec"])),
        "visa": visa_tree(root / "visa", tuple(classes["visa"])),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
def test_the_papers_scenarios_run_from_their_manifests(name, data, prior, tmp_path):
    scenario = dataclasses.replace(streams.load_stream(name), image_size=SIZE)
    options = {
        "amn_diffusion": {"model": str(prior), "epochs": 1, "steps": 2}
        | {k: list(v) if isinstance(v, tuple) else v for k, v in SMALL.items()}
    }
    made = cell(scenario, tmp_path / "cache", "one_for_more", "amn_diffusion", overrides=options)
    made = dataclasses.replace(made, request=dataclasses.replace(made.request, data=data[scenario.reader]))
    run_cell(made, tmp_path)
    record = read(tmp_path, made)
    assert record["status"] == "ok", record["reason"]
    assert record["cost"]["carried_bytes"][0] > 0
    learned = [c for step in scenario.steps for c in step]
    assert sorted(learned) == sorted(scenario.classes)
    for t, row in enumerate(record["matrices"]["image_auroc"]):
        assert sum(value == value for value in row) == sum(map(len, scenario.steps[: t + 1]))
