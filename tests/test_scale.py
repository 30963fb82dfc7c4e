"""SCALE, its sibling memories and its detectors: sizes by the paper's numbers, memories and switches by hand."""

import copy
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from avalanche.core import BaseSGDPlugin
from given import held_bytes
from torch import nn
from torch.nn import functional as F
from toy import IMAGES, SIZE, STREAM, Linear, arrays, images, strategy, train
from trees import tree

from bench import registry, results
from bench.api import BadInput, Setup
from bench.evaluation.replay_fidelity import Quality, frechet, psnr
from bench.render.show import cell_text
from bench.runner import run_cell
from bench.runner.plan import plan_cells
from bench.schema import stream
from bench.schema.config import parse
from bench.schema.request import Request
from methods import compressed_degenerative, generative_replay, latent_replay, lwf, scale
from methods._pix2pix import Pix2Pix, UNet, pixel_discriminator, side_for
from methods._quota import Quota, as_bytes
from methods._superresolution import Options, SuperResolution, lanczos
from methods._without_trace import without_trace
from methods.detectors import cae, inpaint, vae

pytestmark = pytest.mark.slow

SMALL = {"memory": 6, "factor": 2, "epochs": 2, "batch_size": 4, "lr": 2e-3, "width": 4}
THUMBNAIL = 3 * (SIZE // 2) ** 2  # bytes


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


class Batches(BaseSGDPlugin, supports_distributed=False):
    """Notes the images of every batch that the detector is trained on."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def before_forward(self, strategy, **_):
        self.seen.append(as_bytes(strategy.mbatch.image))


# Networks and codec


def test_generator_and_discriminator_have_the_published_sizes():
    with torch.device("meta"):
        net = Pix2Pix(side_for(256)[1], 64, 2e-4)
        assert net.generator(torch.empty(1, 3, 256, 256)).shape == (1, 3, 256, 256)
    assert count(net.generator) == 54_413_955
    assert count(net.discriminator) == count(pixel_discriminator(64)) == 9_024
    dropped = [layer for layer in net.generator.modules() if isinstance(layer, nn.Dropout)]
    assert len(dropped) == 3


@pytest.mark.parametrize(("pixels", "side"), [(256, 256), (128, 128), (64, 64), (8, 8), (224, 256), (1024, 1024)])
def test_a_side_is_one_that_the_network_can_halve(pixels, side):
    found, halvings = side_for(pixels)
    assert (found, found % 2**halvings) == (side, 0)
    assert halvings <= 8


def test_a_thumbnail_has_a_64th_of_the_bytes():
    codec = SuperResolution(Options(width=2), 256)
    pictures = torch.randint(256, (2, 3, 256, 256), dtype=torch.uint8)
    assert codec.shrink(pictures).nbytes == 2 * 3_072 == pictures.nbytes // 64
    assert codec.decode(codec.shrink(pictures)).shape == pictures.shape


def test_tiny_thumbnails_have_a_16th_of_the_bytes():
    assert (
        SuperResolution(scale.Config.tiny(), 64).shrink(torch.zeros(1, 3, 64, 64, dtype=torch.uint8)).nbytes * 16
        == 3 * 64**2
    )


def test_lanczos_is_pillows():
    from PIL import Image

    picture = torch.randint(256, (1, 3, 16, 16), dtype=torch.uint8)
    wanted = Image.fromarray(picture[0].movedim(0, -1).numpy()).resize((4, 4), Image.Resampling.LANCZOS)
    assert np.array_equal(lanczos(picture, 4)[0].movedim(0, -1).numpy(), np.asarray(wanted))


def test_generator_loss_is_bce_plus_l1_and_the_discriminator_steps_first():
    torch.manual_seed(0)
    net, given, real = Pix2Pix(3, 4, 1e-2), torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    before = copy.deepcopy(net.discriminator)
    loss = net.loss(given, real)
    assert not all(torch.equal(a, b) for a, b in zip(before.parameters(), net.discriminator.parameters(), strict=True))
    loss.backward()
    assert all(weight.grad is None for weight in net.discriminator.parameters())
    assert all(weight.grad is not None for weight in net.generator.parameters())
    net.eval()
    made = net.generator(given)
    judged = net.discriminator(torch.cat([given, made], 1))
    wanted = F.softplus(-judged).mean() + 100 * (made - real).abs().mean()
    torch.testing.assert_close(net.loss(given, real), wanted)


def test_a_look_at_the_loss_leaves_no_trace():
    net, given = Pix2Pix(3, 4, 1e-2), torch.rand(2, 3, 8, 8)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with without_trace(net):
        net.loss(given, given).backward()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("on", [False, True])
def test_an_image_is_decoded_alike_whatever_is_beside_it(on):
    torch.manual_seed(0)
    net, image = UNet(6, 4).train_mode_at_test(on), torch.rand(3, 3, 64, 64)
    net(image)  # a step of running statistics, so that they are nobody's own
    net.eval()
    with torch.no_grad():
        together, alone = net(image), torch.cat([net(one[None]) for one in image])
        torch.testing.assert_close(together, alone)
        assert torch.equal(together, net(image))
        other = net.train_mode_at_test(not on)(image)
    assert not torch.allclose(together, other)


def test_train_mode_at_test_is_batch_norm_on_one_image():
    torch.manual_seed(0)
    net, image = UNet(3, 4).train_mode_at_test(), torch.rand(1, 3, 8, 8)  # so shallow that nothing is dropped
    training = net(image)
    torch.testing.assert_close(net.eval()(image), training)


# The memory


def test_quota_is_shared_equally_and_never_exceeded():
    memory = Quota(13)
    for category in range(4):
        memory.admit({category: torch.arange(10) + 100 * category})
        share = min(13 // (category + 1), 10)
        assert [len(items) for items in memory.kept.values()] == [share] * (category + 1)
        assert all((items == 100 * c + memory.places[c]).all() for c, items in memory.kept.items())


def test_a_draw_is_uniform_over_classes_first():
    memory = Quota(40)
    memory.kept = {0: torch.zeros(1), 1: torch.zeros(9)}
    drawn = memory.draw(20_000)
    assert (drawn == 0).float().mean().item() == pytest.approx(0.5, abs=0.02)
    assert torch.bincount(drawn).min() > 0


def test_scale_keeps_thumbnails_by_quota_and_counts_the_codec_too():
    built = strategy(scale, Linear, **SMALL)
    plugin, networks = built.methods[0], None
    for step in range(3):
        train(built, first=step, last=step + 1, labels=True)
        share = 6 // (step + 1)
        assert {c: len(items) for c, items in plugin.memory.kept.items()} == dict.fromkeys(range(step + 1), share)
        assert plugin.report()["payload_bytes"] == share * (step + 1) * THUMBNAIL
        beside = held_bytes(plugin.state_dict()) - share * (step + 1) * (THUMBNAIL + 4)
        networks = networks or beside
        assert beside == networks
    assert networks - held_bytes(dict(plugin.codec.state_dict())) == 8  # the count of steps
    for category, items in plugin.memory.kept.items():
        assert torch.equal(
            items, plugin.codec.shrink(as_bytes(images(category)))[plugin.memory.places[category].long()]
        )


def test_half_of_each_batch_is_decoded_by_the_generator_of_the_day():
    spy = Batches()
    built = strategy(scale, Linear, spies=[spy], **SMALL | {"memory": 2 * Linear.batch_size})
    train(built, last=1, labels=True)
    assert {len(batch) for batch in spy.seen} <= {Linear.batch_size, IMAGES % Linear.batch_size}
    kept = built.methods[0].memory.items()
    spy.seen.clear()
    train(built, first=1, last=2, labels=True)
    replayed = {bytes(picture.numpy()) for picture in built.methods[0].codec.decode(kept)}
    new = {bytes(picture.numpy()) for picture in as_bytes(images(1))}
    for batch in spy.seen:
        found = [bytes(picture.numpy()) for picture in batch]
        assert sum(picture in replayed for picture in found) == Linear.batch_size
        assert sum(picture in new for picture in found) == len(found) - Linear.batch_size
    assert {len(batch) for batch in spy.seen} <= {2 * Linear.batch_size, Linear.batch_size + IMAGES % Linear.batch_size}


def test_the_codec_learns_as_many_old_pairs_as_new_ones():
    codec = SuperResolution(Options(**SMALL), SIZE)
    new, old = torch.zeros(10, 6, 1, 1, dtype=torch.uint8), torch.ones(3, 6, 1, 1, dtype=torch.uint8)
    batches = list(codec._batches(new, old, lambda count: torch.randint(3, (count,))))
    assert [len(batch) for batch in batches] == [4] * 10  # 10 + 10 pairs an epoch
    values = torch.cat(batches)[:, 0].flatten()
    assert (values == 1).sum() == (values == 0).sum() == 2 * 10  # two epochs


def test_the_past_is_taught_by_the_generator_of_the_step_before(monkeypatch):
    built, given = strategy(scale, Linear, **SMALL), []
    plugin = built.methods[0]
    train(built, last=1, labels=True)
    wanted = plugin.codec.decode(plugin.memory.items())
    fit = plugin.codec.fit
    monkeypatch.setattr(plugin.codec, "fit", lambda new, old, draw: (given.append(old), fit(new, old, draw)))
    train(built, first=1, last=2, labels=True)
    assert torch.equal(given[0][1], wanted)
    assert not torch.equal(plugin.codec.decode(given[0][0]), wanted), "the generator has learned since"


def test_decodes_change_with_training_and_thumbnails_do_not():
    built = strategy(scale, Linear, **SMALL)
    plugin = built.methods[0]
    train(built, last=1, labels=True)
    thumbnails, pictures = plugin.memory.kept[0].clone(), plugin.recall()[0][0]
    train(built, first=1, last=2, labels=True)
    assert torch.equal(plugin.memory.kept[0], thumbnails[:3])
    assert not torch.equal(plugin.recall()[0][0], pictures[:3])


def test_super_resolution_learns():
    torch.manual_seed(0)
    codec, pictures = SuperResolution(Options(**SMALL | {"epochs": 30}), SIZE), as_bytes(images(0))
    thumbnails = codec.shrink(pictures)

    def error():
        return (codec.decode(thumbnails).float() - pictures).abs().mean()

    before = error()
    codec.fit((thumbnails, pictures), None, None)
    assert error() < 0.7 * before


# Switches


def test_cached_once_keeps_the_first_decode_and_the_first_quota():
    built = strategy(scale, Linear, decode="cached_once", **SMALL)
    plugin = built.methods[0]
    train(built, last=1, labels=True)
    first = plugin.recall()[0][0]
    train(built, first=1, labels=True)
    assert torch.equal(plugin.recall()[0][0], first)
    assert {c: len(items) for c, items in plugin.memory.kept.items()} == {0: 6, 1: 3, 2: 2}
    assert plugin.report()["payload_bytes"] == 11 * (THUMBNAIL + 3 * SIZE**2), "the cache is carried, so it counts"


def test_include_current_replays_decodes_of_the_new_classes_too():
    spy = Batches()
    built = strategy(scale, Linear, spies=[spy], include_current=True, **SMALL)
    plugin = built.methods[0]
    train(built, last=1, labels=True)
    assert max(map(len, spy.seen)) == Linear.batch_size
    spy.seen.clear()
    train(built, first=1, last=2, labels=True)
    seen = {bytes(picture.numpy()) for batch in spy.seen for picture in batch}
    for pictures, _ in plugin.recall().values():
        assert any(bytes(picture.numpy()) in seen for picture in pictures)


def test_the_control_enlarges_by_the_filter_alone_and_carries_no_network():
    built = strategy(scale, Linear, **SMALL | {"decode": "lanczos"})
    plugin = built.methods[0]
    train(built, last=2, labels=True)
    kept = plugin.memory.items()
    pictures = torch.cat([found for found, _ in plugin.recall().values()])
    assert torch.equal(pictures, lanczos(kept, SIZE))
    assert held_bytes(plugin.state_dict()) == len(kept) * (THUMBNAIL + 4) + 8
    assert plugin.report()["decoder_bytes"] == 0
    quality = Quality(STREAM, arrays())
    quality.ffd = lambda made, real: 0.0
    quality_of = quality.measure(plugin.recall(), 1, plugin.report()["thumbnail_px"])
    assert quality_of["memory_psnr"] == pytest.approx(quality_of["memory_psnr_lanczos"], abs=1e-4)
    assert "memory_psnr_lanczos" not in quality.measure(plugin.recall(), 1)


def test_wrong_options_are_named():
    with pytest.raises(BadInput, match="'never' is none of current, cached_once"):
        scale.Config(decode="never")
    with pytest.raises(BadInput, match="'3d' is none of 2d, rows"):
        inpaint.Config(smoothing="3d")
    with pytest.raises(BadInput, match="factor=99 makes no thumbnail of 8 px"):
        SuperResolution(Options(factor=99), 8)
    with pytest.raises(BadInput, match="5 px does not divide 64 px"):
        inpaint.build(inpaint.Config(width=2, cells=(5,)), Setup(64, 0))


def test_the_imagenet_range_cannot_reach_black():
    for imagenet, darkest in ((False, 0), (True, 46)):
        codec = SuperResolution(Options(**SMALL | {"imagenet_range": imagenet}), SIZE)
        reached = codec.net.range.back(torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 1, 1)) * 255
        assert reached.min().item() == pytest.approx(darkest, abs=1)


# Sibling memories


def test_degenerative_memory_goes_through_its_codec_once_a_step():
    built = strategy(compressed_degenerative, Linear, **SMALL)
    plugin = built.methods[0]
    train(built, last=1, labels=True)
    first = plugin.memory.kept[0].clone()
    train(built, first=1, last=2, labels=True)
    again = plugin.codec.shrink(plugin.codec.decode(first))
    assert torch.equal(plugin.memory.kept[0], again[:3])
    assert not torch.equal(again, first)


class Coder(Linear):
    """Its code is the mean colour, its decode a flat picture, shifted by what was learned."""

    def encode(self, image):
        return image.mean((2, 3)) * self.weight

    def decode(self, code):
        return (code / self.weight)[..., None, None].clamp(0, 1).expand(-1, -1, SIZE, SIZE)

    def sample(self, count):
        return self.decode(torch.rand(count, 3) * self.weight)


def test_latent_replay_keeps_codes_as_they_were_taken_and_decodes_them_as_of_today():
    spy = Batches()
    built = strategy(latent_replay, Coder, spies=[spy], memory=6)
    plugin = built.methods[0]
    train(built, last=1, labels=True)
    codes = plugin.memory.kept[0].clone()
    picked = images(0)[plugin.memory.places[0].long()]
    torch.testing.assert_close(codes, built.model.encode(picked).detach())
    shown = {bytes(picture.numpy()) for picture in as_bytes(built.model.decode(codes).detach())}
    spy.seen.clear()
    train(built, first=1, last=2, labels=True)
    seen = {bytes(picture.numpy()) for batch in spy.seen for picture in batch}
    assert shown <= seen
    assert torch.equal(plugin.memory.kept[0], codes[:3])
    assert plugin.report() == {"payload_bytes": 6 * 3 * 4}
    assert torch.equal(plugin.recall()[0][0], as_bytes(built.model.decode(codes[:3]).detach()))


def test_generative_replay_draws_from_the_detector_and_carries_nothing():
    spy = Batches()
    built = strategy(generative_replay, Coder, spies=[spy], samples=10)
    train(built)
    assert held_bytes(built.methods[0].state_dict()) == 0
    flat = [[(picture.flatten(1).amax(1) == picture.flatten(1).amin(1)).all() for picture in b] for b in spy.seen]
    per_step = len(flat) // 3
    assert not any(map(any, flat[:per_step]))
    assert all(sum(batch) == Coder.batch_size for batch in flat[per_step:])
    assert built.methods[0].recall()[-1][0].shape == (10, 3, SIZE, SIZE)


CODERS = [e for e in registry.found_entries("detector").values() if "latent" in e.declared["TRAITS"]]


@pytest.mark.parametrize("entry", CODERS, ids=lambda entry: entry.name)
def test_detectors_with_latents_encode_and_decode_images(entry):
    module, image = entry.load(), torch.rand(2, 3, 64, 64)
    detector = module.build(module.Config.tiny(), Setup(64, 0)).eval()
    with torch.no_grad():
        code = detector.encode(image)
        made = detector.decode(code)
        assert len(code) == 2 and code[0].numel() < image[0].numel() / 4
        assert made.shape == image.shape and made.min() >= 0 and made.max() <= 1
        if "sampling" in entry.declared["TRAITS"]:
            assert detector.sample(3).shape == (3, 3, 64, 64)


@pytest.mark.parametrize("method", [scale, compressed_degenerative])
def test_exhibits_are_thumbnail_and_decode(method):
    built = strategy(method, Linear, **SMALL)
    train(built, labels=True)
    twin = strategy(method, Linear, seed=3, **SMALL)
    twin.methods[0].load_state_dict(built.methods[0].state_dict())
    shown = twin.methods[0].exhibits(images(0)[:2], 0)
    assert {name: tuple(p.shape) for name, p in shown.items()} == {"thumbnail": (2, 3, 4, 4), "decode": (2, 3, 8, 8)}
    assert all(p.min() >= 0 and p.max() <= 1 for p in shown.values())
    assert torch.equal(shown["decode"], built.methods[0].exhibits(images(0)[:2], 0)["decode"])


@pytest.mark.parametrize("method", [latent_replay, generative_replay])
def test_exhibits_of_latents_and_samples_are_pictures(method):
    built = strategy(method, Coder)
    train(built, labels=True)
    (shown,) = built.methods[0].exhibits(images(0)[:2], 0).values()
    assert shown.shape == (2, 3, SIZE, SIZE) and shown.min() >= 0 and shown.max() <= 1


# Detectors


def test_cae_has_the_published_layers():
    net = cae.build(cae.Config(), Setup(256, 0))
    widths = [3, 16, 32, 64, 128, 256, 512]
    halvings = sum(a * b * 16 + b for a, b in pairwise(widths))
    doublings = sum(a * b * 16 + a for a, b in pairwise(widths))
    assert count(net) == halvings + doublings + 2 * (32 + 64 + 128 + 256) + 2 * (128 + 64 + 32 + 16)
    assert net.encode(torch.rand(2, 3, 256, 256)).shape == (2, 512, 4, 4)
    image = torch.rand(2, 3, 256, 256)
    torch.testing.assert_close(net.loss(image), (net.response(image)[0] - (2 * image - 1)).square().mean())


def test_each_cell_is_masked_in_exactly_one_copy():
    found = inpaint.masks(5, 64, 8)
    assert found.shape == (5, 3, 64, 64)
    assert (found.sum(1) == 1).all()
    assert found.float().mean((2, 3)).min() >= 21 / 64
    cells = found.unflatten(2, (8, 8)).unflatten(4, (8, 8))
    assert (cells.amax((3, 5)) == cells.float().mean((3, 5))).all(), "a cell is masked whole"
    assert not torch.equal(found[0], found[1])


def painter(**options) -> inpaint.Inpaint:
    torch.manual_seed(0)
    return inpaint.build(inpaint.Config(**{"width": 4, "cells": (4, 8), "sigma": 1.5} | options), Setup(64, 0))


def test_inpaint_fills_each_cell_from_the_copy_in_which_it_was_masked():
    net, image = painter().eval(), torch.rand(2, 3, 64, 64)
    real, masked = net._framed(image), net.masks8
    net.net.generator.forward = lambda given: given  # what it is given: 0 where masked, so nothing may be left of it
    assert net._filled(real, 8).abs().max() == 0
    given, whole = net._copies(real, masked.expand(2, -1, -1, -1))
    torch.testing.assert_close(given.unflatten(0, (2, 3)).sum(1), 2 * real)
    assert torch.equal(whole[::3], real)
    net.net.generator.forward = lambda given: torch.full_like(given, 0.25)
    assert (net._filled(real, 8) == 0.25).all()


def test_inpaint_scores_nothing_where_everything_is_restored(monkeypatch):
    net, image = painter().eval(), torch.rand(2, 3, 64, 64)
    monkeypatch.setattr(net, "_filled", lambda real, cell: real)
    assert net.predict(image).map.abs().max() < 1e-6


def test_inpaint_switches_do_as_released(monkeypatch):
    spot = torch.zeros(1, 1, 64, 64)
    spot[..., 32, 32] = 1
    rows, both = painter(smoothing="rows")._smoothed(spot), painter()._smoothed(spot)
    assert (rows > 1e-6).any(-1).sum() == 1 and (both > 1e-6).any(-1).sum() > 3
    monkeypatch.setattr(inpaint, "dissimilarity", lambda real, filled: filled[:, :1])
    found = {}
    for by_cells in (False, True):
        net = painter(by_cells=by_cells)
        monkeypatch.setattr(net, "_filled", lambda real, cell: torch.full_like(real, 1.0 if cell == 8 else 0.0))
        found[by_cells] = net.predict(torch.rand(1, 3, 64, 64)).score.item()
    assert found[False] == pytest.approx(1 / 2) and found[True] == pytest.approx((8 / 64) ** 2)


@pytest.mark.parametrize("on", [False, True])
def test_inpaint_judges_each_image_on_its_own_in_either_mode(on):
    net, image = painter(train_mode_at_test=on), torch.rand(4, 3, 64, 64)
    net.loss(image)
    net.eval()
    with torch.no_grad():
        together = net.predict(image).score
        torch.testing.assert_close(together, torch.cat([net.predict(one[None]).score for one in image]))


def test_inpaint_trains_the_generator_by_the_harness_and_the_discriminator_by_itself():
    net, image = painter(lr=1e-2), torch.rand(2, 3, 64, 64)
    net.prepare([image])
    optimizer = net.optimizer()
    own = {id(weight) for group in optimizer.param_groups for weight in group["params"]}
    assert own == {id(weight) for weight in net.net.generator.parameters()}
    before = {name: value.clone() for name, value in net.named_parameters()}
    net.loss(image).backward()
    moved = {name for name, value in net.named_parameters() if not torch.equal(value, before[name])}
    assert moved and all(name.startswith("net.discriminator") for name in moved)
    twin = copy.deepcopy(net)  # as LwF does: the copy's discriminator must move alone
    untouched = [value.clone() for value in net.net.discriminator.parameters()]
    twin.loss(image)
    assert all(torch.equal(a, b) for a, b in zip(untouched, net.net.discriminator.parameters(), strict=True))


def test_lwf_distils_inpainting():
    from mini import build

    assert build("lwf", "inpaint").methods[0].strength.ratio == lwf.Config.tiny().strength > 0
    net = painter()
    assert net.response(torch.rand(2, 3, 64, 64))[0].requires_grad


# How true a memory is


def test_break_even_of_the_paper():
    with torch.device("meta"):
        plugin = scale.CompressedReplay(scale.Config(), Setup(256, 0, "meta"))
    report = plugin.report()
    assert report["decoder_bytes"] == 4 * 54_413_955
    assert math.ceil(report["break_even_images"]) == 1_125


def test_frechet_distance_of_known_gaussians():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(20_000, 2)) * (1, 2)
    assert frechet(a, a) == pytest.approx(0, abs=1e-6)
    assert frechet(a, a + np.array([3, 4])) == pytest.approx(25, abs=1e-6)
    assert frechet(a, 2 * a) == pytest.approx(np.trace(np.cov(a.T)) + np.square(a.mean(0)).sum(), rel=0.01)


def recalled(shift: int, places=(4, 2)):
    """What a plugin recalls that gives back the images of class 1 at places 4 and 2, a little brighter."""
    held = arrays()
    own = held.images[held.train & (held.categories == 1)][[4, 2]].astype(int) + shift
    pictures = torch.from_numpy(own.clip(0, 255).astype(np.uint8)).movedim(-1, 1)
    return {1: (pictures, None if places is None else torch.tensor(places))}


def test_a_memory_is_measured_against_the_images_it_stands_for(monkeypatch):
    quality = Quality(STREAM, arrays())
    monkeypatch.setattr(quality, "ffd", lambda made, real: 0.0)
    monkeypatch.setattr(
        "bench.evaluation.replay_fidelity.structural_similarity_index_measure", lambda *_, **__: torch.tensor(1.0)
    )
    near, far = (quality.measure(recalled(shift), 1) for shift in (1, 16))
    assert near["memory_psnr"] == near["memory_psnr/b"] > far["memory_psnr"]
    assert near["memory_psnr"] == pytest.approx(20 * math.log10(255), abs=0.5)
    wrong = quality.measure(recalled(1, places=(3, 1)), 1)
    assert wrong["memory_psnr"] < near["memory_psnr"] - 10
    assert quality.measure(recalled(1, places=None), 1) == {"memory_ffd": 0.0}
    assert quality.measure(scale.Plugin().recall(), 1) == {}


def test_ffd_is_zero_for_equals_and_grows_with_blur(stream, arrays):
    held = torch.from_numpy(arrays.images[arrays.train]).movedim(-1, 1)[:12]
    quality, real = Quality(stream, arrays), held.float() / 255
    blurs = [lanczos(lanczos(held, side), 64).float() / 255 for side in (32, 8)]
    found = [quality.ffd(made, real) for made in (real, *blurs)]
    assert found[0] == pytest.approx(0, abs=1e-3)
    assert found[0] < found[1] < found[2]
    assert psnr(blurs[0], real) > psnr(blurs[1], real)


# The paper's streams


@pytest.mark.parametrize("name", ["mvtec/scale-10", "mvtec/clad-10"])
def test_the_papers_streams_run_from_their_manifests(name, tmp_path):
    classes = stream.load_stream(name).classes
    data = tree(tmp_path / "data", classes)
    wanted = ("scale.epochs=1", "scale.width=2", "scale.memory=20", "inpaint.epochs=1", "inpaint.width=2")
    request = Request(
        ("scale",),
        scenarios=(name,),
        data=data,
        size="tiny",
        image_size=32,
        overrides=parse(wanted),
        cache=tmp_path / "cache",
        device="cpu",
    )
    (cell,) = plan_cells(request)
    assert (cell.spec["detector"], len(classes)) == ("inpaint", 10)
    run_cell(cell, tmp_path)
    path: Path = results.cell_path(tmp_path, cell.spec)
    found = results.read(path)
    assert found["status"] == "ok", found["reason"]
    R = np.array(found["matrices"]["image_auroc"])
    assert np.array_equal(np.isfinite(R), np.tri(10, dtype=bool))
    notes = found["notes"]
    assert notes["payload_bytes"] == [min(3, 20 // (t + 1)) * (t + 1) * 3 * 8**2 for t in range(10)]
    assert all(len(values) == 10 for values in notes.values())
    assert np.isnan(notes[f"memory_psnr/{classes[4]}"][:4]).all() and np.isfinite(notes["memory_ffd"]).all()
    assert "break_even_images" in cell_text(path, found) and "memory_ssim" in cell_text(path, found)


def test_vae_samples_and_codes_are_the_papers():
    net = vae.build(vae.Config(), Setup(256, 0)).eval()
    with torch.no_grad():
        assert net.encode(torch.rand(1, 3, 256, 256)).shape == (1, 256)  # 1 KiB
        assert net.sample(2).shape == (2, 3, 256, 256)
