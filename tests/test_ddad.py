"""DDAD by its equations: the U-Net, guidance, adaptation, map; and that guidance cannot hide forgetting."""

import copy
from dataclasses import asdict, replace

import pytest
import torch
from authors import Network
from mini import RANDOM, cell, read
from torch import nn

from bench.api import BadInput, Setup, smooth
from bench.render import show
from bench.results import cell_path
from bench.runner import run_cell
from bench.schema import config
from methods import ddad as method
from methods.detectors import ddad, ddad_s
from methods.detectors.ddad import adaptation, checkpoint
from methods.detectors.ddad.detector import Ddad
from methods.detectors.ddad.diffusion import Guided, unet
from methods.detectors.ddad.per_class import MVTEC, PER_CLASS

pytestmark = pytest.mark.slow

TINY = ddad.Config.tiny()
SMALL = replace(TINY, resolution=16, width=8, multipliers=(1, 2), groups=4, attended=(8,), start=250, skip=50)
BETAS = torch.linspace(1e-4, 0.02, 1000)
KEPT = (1 - BETAS).cumprod(0)  # ᾱ


def build(pixels: int = 32, seed: int = 0, **options) -> Ddad:
    torch.manual_seed(0)
    return ddad.build(replace(SMALL, **options), Setup(pixels, seed, backbone=RANDOM))


def shaken(detector: Ddad) -> Ddad:
    """With weights that make its U-Net say something."""
    with torch.no_grad():
        for weight in detector.unet.parameters():
            weight += 0.1 * torch.randn_like(weight)
    return detector.eval()


def state(module: nn.Module) -> dict:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(one: dict, two: dict) -> bool:
    return all(torch.equal(value, two[name]) for name, value in one.items())


@pytest.mark.parametrize(("module", "count"), [(ddad, 32_952_707), (ddad_s, 8_257_731)])
def test_unet_has_the_published_number_of_weights(module, count):
    with torch.device("meta"):
        net = unet(module.Config(), 256)
    assert sum(weight.numel() for weight in net.parameters()) == count
    heads = {part.heads for part in net.modules() if hasattr(part, "to_q")}
    assert heads == {module.Config().heads}


def test_unet_begins_with_no_noise_found_whatever_the_layout():
    for side, options in ((32, {}), (64, {"width": 32}), (16, {"multipliers": (1, 2), "attended": ()})):
        net = unet(ddad_s.Config(**options), side)
        assert not net(torch.randn(1, 3, side, side), 3).sample.any()


def test_unet_refuses_a_size_without_layout():
    with pytest.raises(BadInput, match=r"no layout for 224 px: set ddad.resolution to one of \[32, 64, 128, 256\]"):
        unet(ddad.Config(), 224)
    with pytest.raises(BadInput, match="cannot halve 30 px 2 times"):
        unet(replace(SMALL, multipliers=(1, 1, 1)), 30)


def test_reconstruction_is_not_started_where_steps_do_not_meet():
    with pytest.raises(BadInput, match="skip must divide start and 1000"):
        ddad.Config(skip=30)


def reference(noise_in, x, y, w, noise, *, first: int, eta: float = 1.0):
    """The recursion of the paper, with ᾱ₋₁ = 1; also every conditioned and unconditioned estimate."""
    kept = torch.cat([KEPT, torch.ones(1)])
    x = kept[first].sqrt() * x + (1 - kept[first]).sqrt() * noise[0]
    estimates = []
    for i, z in zip(range(225, -1, -25), noise[1:], strict=True):
        a, b = kept[i], kept[i - 25 if i else -1]
        e = noise_in(x, i)
        free = (x - (1 - a).sqrt() * e) / a.sqrt()
        e = e - w * (1 - a).sqrt() * (a.sqrt() * y + (1 - a).sqrt() * e - x)
        clean = (x - (1 - a).sqrt() * e) / a.sqrt()
        s = eta * ((1 - b) / (1 - a)).sqrt() * (1 - a / b).sqrt()
        x = b.sqrt() * clean + s * z + (1 - b - s**2).clamp_min(0).sqrt() * e
        estimates.append((i, free, clean))
    return x, estimates


def noise_in(x, level):
    """Stands for the U-Net."""
    return 0.7 * x + 0.1 * torch.sin(5 * x + level)


@pytest.mark.parametrize(("more", "first"), [(False, 225), (True, 250)])
@pytest.mark.parametrize("eta", [1.0, 0.0])
def test_reconstruction_is_the_papers_recursion(more, first, eta):
    guided = Guided(250, 25, eta, more)
    x, y, noise = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8), torch.randn(11, 1, 3, 8, 8)
    assert guided.steps == list(range(225, -1, -25))
    assert guided.draws == 11
    expected, _ = reference(noise_in, x, y, 3.0, noise, first=first, eta=eta)
    torch.testing.assert_close(guided(noise_in, x, y, 3.0, noise), expected, atol=1e-5, rtol=1e-5)


def test_guidance_moves_each_estimate_towards_the_target_by_w_times_the_share_of_noise():
    x, y, noise = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8), torch.randn(11, 1, 3, 8, 8)
    for w in (1.0, 3.0):
        for level, free, guided in reference(noise_in, x, y, w, noise, first=250)[1]:
            expected = free + w * (1 - KEPT[level]) * (y - free)
            torch.testing.assert_close(guided, expected, atol=1e-5, rtol=1e-5)
    assert [round((1 - KEPT[level]).item(), 3) for level in (225, 100, 0)] == [0.411, 0.105, 0.0]


def test_without_guidance_the_target_does_not_matter():
    detector = shaken(build())
    x, y, other = torch.randn(3, 2, 3, 16, 16).unbind()
    noise = detector._fixed_noise()
    assert torch.equal(detector.again(x, y, 0.0, noise), detector.again(x, other, 0.0, noise))
    assert not torch.equal(detector.again(x, y, 3.0, noise), detector.again(x, other, 3.0, noise))


def test_noise_is_the_runs_seed_and_nothing_else():
    image = torch.rand(3, 3, 32, 32)
    one, two, other = (shaken(build(seed=seed)) for seed in (0, 0, 1))
    first = one.predict(image).map
    torch.manual_seed(5)
    assert torch.equal(two.predict(image).map, first)
    assert not torch.equal(other.predict(image).map, first)
    other.load_state_dict(one.state_dict())  # a resumed run goes on with its noise
    assert torch.equal(other.predict(image).map, first)


def test_loss_sums_over_pixels():
    detector = build()
    image = torch.rand(4, 3, 16, 16)
    torch.manual_seed(1)
    loss = detector.loss(image)
    torch.manual_seed(1)
    noise = torch.randn(4, 3, 16, 16)  # of which the untrained U-Net finds nothing
    torch.testing.assert_close(loss, noise.square().sum((1, 2, 3)).mean())


def test_map_adds_features_and_scaled_pixels():
    detector = shaken(build(pixels=16, v=7.0, strides=(4, 8), unmapped=1))
    detector.ratio.fill_(0.25)
    image = torch.rand(2, 3, 16, 16)
    target = 2 * image - 1
    made = detector.again(target, target, detector.config.w, detector._fixed_noise())
    a, b = (list(detector.features(x / 2 + 0.5).values())[1] for x in (made, target))
    a, b = (nn.functional.avg_pool2d(f, 3, 1, 1) for f in (a, b))
    feature = (1 - nn.functional.cosine_similarity(a, b))[:, None]
    feature = nn.functional.interpolate(feature, (16, 16), mode="bilinear", align_corners=True)
    expected = feature + 7.0 * 0.25 * (made - target).abs().mean(1, keepdim=True)
    found = detector.predict(image)
    torch.testing.assert_close(found.map, smooth(expected, detector.config.sigma))
    assert torch.equal(found.score, found.map.amax((1, 2, 3)))


def test_a_map_depends_on_its_batch_only_if_asked_to():
    images = torch.rand(4, 3, 32, 32)
    images[1:] *= 0.2
    for norm, moves in (("train", False), ("batch", True)):
        detector = shaken(build(norm=norm))
        together, alone = detector.predict(images).map[1:2], detector.predict(images[1:2]).map
        assert torch.allclose(together, alone, atol=1e-5) is not moves


def test_adaptation_moves_the_features_and_their_norms_and_nothing_else():
    detector = shaken(build(adapt_epochs=2, adapt_batch=4)).train()
    before = {name: state(getattr(detector, name)) for name in ("unet", "frozen", "features")}
    assert same(before["frozen"], before["features"])
    detector.consolidate(torch.rand(12, 3, 32, 32).split(5))
    assert detector.training
    assert same(before["unet"], state(detector.unet))
    assert same(before["frozen"], state(detector.frozen))
    after = state(detector.features)
    moved = {name for name in after if not torch.equal(after[name], before["features"][name])}
    assert {name for name in after if name.endswith("running_mean")} <= moved
    assert {name for name, _ in detector.features.named_parameters()} <= moved


def test_adaptation_can_be_left_out():
    detector = shaken(build(adapt_epochs=0))
    before = state(detector.features)
    detector.consolidate([torch.rand(8, 3, 32, 32)])
    assert same(before, state(detector.features))
    assert detector.ratio != 1


def test_adaptation_loss_has_the_three_terms():
    detector = shaken(build(adapt_hold=0.5))
    with torch.no_grad():
        for weight in detector.features.parameters():
            weight += 0.05 * torch.randn_like(weight)
    made, target = torch.rand(2, 3, 3, 32, 32)

    def apart(a, b):
        return 1 - (a * b).flatten(1).sum(1) / (a.flatten(1).norm(dim=1) * b.flatten(1).norm(dim=1))

    expected = 0
    for stride in detector.features.layers:
        new, old = ([net(x)[stride] for x in (made, target)] for net in (detector.features, detector.frozen))
        expected += (apart(*new) + 0.5 * apart(new[0], old[0]) + 0.5 * apart(new[1], old[1])).mean()
    torch.testing.assert_close(adaptation._loss(detector, made, target), expected)


def test_ratio_comes_from_images_that_the_adaptation_did_not_see():
    every = torch.arange(40).view(40, 1, 1, 1).expand(-1, 3, 4, 4) / 255
    shown, kept = adaptation.split(every.split(7), 8)
    assert sorted([*shown[:, 0, 0, 0].tolist(), *kept[:, 0, 0, 0].tolist()]) == list(range(40))
    assert len(kept) == 8
    assert kept[:, 0, 0, 0].tolist()[::7] == [0, 39]  # spread over the step, so over its classes
    assert len(adaptation.split([every], 32)[1]) == 10
    few = adaptation.split([every[:3]], 32)
    assert torch.equal(*few)
    detector = shaken(build(adapt_epochs=0, held_out=2))
    images = torch.rand(8, 3, 32, 32).mul(255).round() / 255
    detector.consolidate([images])
    pixel, feature = detector._distances(images[[0, 7]])
    torch.testing.assert_close(detector.ratio, feature.amax() / pixel.amax())


def test_pairs_are_of_one_class_though_labels_are_hidden():
    kinds = torch.arange(60) % 3
    torch.manual_seed(0)
    looks = torch.randn(3, 8)[kinds] * 5 + 0.3 * torch.randn(60, 8)
    found = list(adaptation.batches(looks, 4, at_random=False))
    targets, starts = (torch.cat(part) for part in zip(*found, strict=True))
    assert len(found) == 7  # the last two pairs are left out
    assert len({*targets.tolist(), *starts.tolist()}) == 56
    assert (kinds[targets] == kinds[starts]).float().mean() > 0.8  # halves at random: a class may be uneven
    targets, starts = (torch.cat(part) for part in zip(*adaptation.batches(looks, 4, at_random=True), strict=True))
    assert (kinds[targets] == kinds[starts]).float().mean() < 0.6
    assert [len(t) for t, _ in adaptation.batches(looks[:5], 4, at_random=False)] == [2]


def authors_network() -> Network:
    torch.manual_seed(2)
    return Network((8, 16), (False, True), layers=1, heads=2, groups=4)


def test_a_checkpoint_of_the_authors_code_gives_the_same_network(tmp_path):
    theirs = authors_network()
    torch.save({f"module.{name}": value for name, value in theirs.state_dict().items()}, tmp_path / "2000")
    ours = build(checkpoint=str(tmp_path / "2000")).unet
    x, t = torch.randn(2, 3, 16, 16), torch.tensor([3, 700])
    with torch.no_grad():
        torch.testing.assert_close(ours(x, t).sample, theirs(x, t), atol=1e-5, rtol=1e-5)


def test_a_checkpoint_goes_there_and_back():
    ours = shaken(build()).unet
    names, theirs = checkpoint.renamed(ours), {}
    for name, weight in ours.state_dict().items():
        module, _, kind = name.rpartition(".")
        if module[-5:] not in (".to_q", ".to_k", ".to_v"):
            theirs[f"{names[module]}.{kind}"] = weight[..., None] if "proj_out" in names[module] else weight
    for name, module in ours.named_modules():
        if hasattr(module, "to_q"):
            for kind in ("weight", "bias"):
                parts = [getattr(getattr(module, f"to_{part}"), kind) for part in "qkv"]
                packed = torch.stack([part.unflatten(0, (module.heads, -1)) for part in parts], 1).flatten(0, 2)
                theirs[f"{names[name]}.to_qkv.{kind}"] = packed[..., None] if kind == "weight" else packed
    wanted = authors_network().state_dict()
    theirs = {name: value.reshape(wanted[name].shape) for name, value in theirs.items()}
    assert theirs.keys() == wanted.keys()
    assert same(state(ours), checkpoint.converted(ours, theirs))


def test_a_wrong_checkpoint_is_named(tmp_path):
    with pytest.raises(BadInput, match="cannot be read"):
        build(checkpoint=str(tmp_path / "absent"))
    (tmp_path / "text").write_text("no weights")
    with pytest.raises(BadInput, match="cannot be read"):
        build(checkpoint=str(tmp_path / "text"))
    torch.save(authors_network().state_dict(), tmp_path / "small")
    with pytest.raises(BadInput, match="does not fit this U-Net"):
        build(checkpoint=str(tmp_path / "small"), multipliers=(1, 1, 2))
    with pytest.raises(BadInput, match="does not fit this U-Net"):
        build(checkpoint=str(tmp_path / "small"), width=16)


def test_defaults_are_one_setting_and_the_authors_table_must_be_asked_for():
    assert (ddad.Config().w, ddad.Config().adapt_epochs, ddad.Config().epochs) == (4.0, 4, 2000)
    assert len(PER_CLASS) == 27
    assert len(MVTEC.split()) == 15 * 4
    bottle = ddad.Config(upstream_per_class="bottle")
    assert (bottle.w, bottle.epochs, bottle.adapt_epochs, bottle.v, bottle.adapt_hold) == (3.0, 1000, 5, 1.0, 0.1)
    assert ddad.Config(**asdict(bottle)) == bottle
    assert ddad_s.Config(upstream_per_class="pcb1").v == 7.0


def test_a_setting_of_the_table_is_refused_where_it_would_not_hold():
    with pytest.raises(BadInput, match="'housing' is none of carpet, grid"):
        ddad.Config(upstream_per_class="housing")
    with pytest.raises(BadInput, match="sets epochs, w, v, adapt_epochs, adapt_hold itself"):
        ddad.Config(upstream_per_class="bottle", w=7.0)
    with pytest.raises(BadInput, match="'max' is none of train, batch"):
        ddad.Config(norm="max")
    with pytest.raises(BadInput, match="'fp16' is none of auto, bf16, fp32"):
        ddad.Config(precision="fp16")


def test_running_mean_of_the_weights_ends_a_step_where_asked_for():
    detector = build(ema=0.5)
    assert build().average is None
    image, seen = torch.rand(4, 3, 32, 32), []
    optimizer = detector.optimizer()
    detector.optimizer()  # the strategy asks more than once
    for _ in range(30):
        detector.loss(image).backward()
        optimizer.step()
        optimizer.zero_grad()
        seen.append(detector.unet.conv_out.bias.detach().clone())
    detector.consolidate([image])
    assert detector.average is None
    expected = sum(0.5 ** (30 - k) * value for k, value in enumerate(seen))
    torch.testing.assert_close(detector.unet.conv_out.bias, expected, atol=2e-4, rtol=0)
    assert not torch.equal(detector.unet.conv_out.bias, seen[-1])


def test_training_may_be_in_bf16_but_predictions_are_not():
    exact, coarse = build(precision="fp32"), build(precision="bf16")
    image, kinds = torch.rand(4, 3, 32, 32), []
    for detector in (exact, coarse):
        shaken(detector).unet.conv_out.register_forward_hook(lambda *given: kinds.append(given[2].dtype))
        torch.manual_seed(3)
        detector.loss(image).backward()
        detector.predict(image)
    assert kinds[:1] == [torch.float32]
    assert kinds.count(torch.bfloat16) == 1
    assert not build().bf16, "on a CPU only where asked for"


def test_compiled_unet_keeps_its_names_and_its_copies():
    plain, compiled = build(), build(compile=True)
    assert compiled.unet._compiled_call_impl is not None
    assert compiled.state_dict().keys() == plain.state_dict().keys()
    copied = copy.deepcopy(compiled)
    with torch.compiler.set_stance("force_eager"):
        image = torch.rand(2, 3, 32, 32)
        assert torch.equal(copied.predict(image).map, compiled.predict(image).map)


def test_reconstruction_and_raw_error_are_of_the_images_size_and_range():
    detector = shaken(build(w=0.0))
    image = torch.rand(3, 3, 64, 64)
    made = detector.reconstruct(image)
    assert made.shape == image.shape
    assert 0 <= made.min() < made.max() <= 1
    target = detector.scaled(image)
    free = detector.again(target, target, 0.0, detector._fixed_noise())
    torch.testing.assert_close(detector.raw_error(image), (free - target).abs().mean((1, 2, 3)) / 2)
    guided = build(w=4.0)
    guided.unet.load_state_dict(detector.unet.state_dict())
    assert torch.equal(guided.raw_error(image), detector.raw_error(image)), "guidance must not hide forgetting"


QUICK = {"epochs": 1, "adapt_epochs": 1}


def test_the_cell_records_the_raw_error_and_show_tells_its_forgetting(stream, cache, tmp_path):
    made = cell(stream, cache, "ddad", "ddad", overrides={"ddad": QUICK})
    run_cell(made, tmp_path)
    record = read(tmp_path, made)
    assert record["status"] == "ok", record["reason"]
    R = record["matrices"]["raw_error"]
    assert all(0 < value < 1 for t, row in enumerate(R) for value in row[: t + 1])
    rise = sum(R[2][c] - min(R[t][c] for t in range(c, 2)) for c in (0, 1)) / 2
    page = show.cell_text(cell_path(tmp_path, made.spec), record)
    assert (
        f"raw_error (normal test images, unguided; lower is better); forgetting, final - lowest earlier: {rise:.4f}"
        in page
    )


def test_the_ratio_of_a_batch_is_refused(stream, cache, tmp_path):
    made = cell(stream, cache, "finetune", "ddad", overrides={"ddad": QUICK | {"norm": "batch", "v": 7.0}})
    run_cell(made, tmp_path)
    record = read(tmp_path, made)
    assert record["status"] == "failed"
    assert "CanaryError" in record["reason"]


def test_method_and_detector_of_one_name_share_their_options():
    parts = ("ddad", method), ("ddad", ddad)
    assert config.configured_pair(*parts, "paper", {"ddad": {"w": 2.0}}) == (method.Config(), ddad.Config(w=2.0))
    with pytest.raises(BadInput, match="no option of ddad 'ww'"):
        config.configured_pair(*parts, "paper", {"ddad": {"ww": 2.0}})
