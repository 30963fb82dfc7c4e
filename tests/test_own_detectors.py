"""The VAE of SCALE and InvAD: layers, losses and maps by the papers' numbers."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from bench.api import BadInput, Setup
from bench.schema.request import BackboneSpec, Weights
from methods.detectors import invad, vae
from methods.detectors._similarity import dissimilarity
from methods.detectors.invad.generator import Fuser
from methods.detectors.invad.layers import EqualConv, UpConv

pytestmark = pytest.mark.slow

TINY = BackboneSpec("test_resnet", Weights("random"))


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def invert(pixels: int = 64) -> invad.InvAd:
    torch.manual_seed(0)
    return invad.build(replace(invad.Config.tiny(), strides=(4, 8, 16)), Setup(pixels, 0, backbone=TINY))


def test_vae_has_the_published_layers():
    net = vae.build(vae.Config(), Setup(256, 0))
    halvings = [(3, 16), (16, 32), (32, 64), (64, 128), (128, 128), (128, 128)]
    doublings = [(128, 128), (128, 128), (128, 64), (64, 32), (32, 16), (16, 3)]
    convolutions = sum(a * b * 16 + b for a, b in halvings + doublings)
    norms = 2 * (32 + 64 + 128 + 128) + 2 * (128 + 64 + 32 + 16)
    assert count(net) == convolutions + norms + 2 * (2048 * 256 + 256) + 256 * 2048 + 2048 == 2_971_651
    assert net.encoder(torch.rand(2, 3, 256, 256)).shape == (2, 128 * 4 * 4)
    assert net.response(torch.rand(2, 3, 256, 256))[0].shape == (2, 3, 256, 256)


def test_vae_loss_is_squared_error_plus_divergence_per_image():
    net = vae.build(vae.Config.tiny(), Setup(32, 0)).eval()
    with torch.no_grad():  # a known Gaussian, whatever the image, and so narrow that the draw is its mean
        for head, value in ((net.mean, 0.5), (net.log_variance, -60.0)):
            head.weight.zero_()
            head.bias.fill_(value)
        image = torch.rand(4, 3, 32, 32)
        made = net.decoder(torch.full((4, 64), 0.5))
    error = (made - (2 * image - 1)).square().sum() / 4
    divergence = 64 * 0.5 * (torch.tensor(-60.0).exp() + 60 - 1 + 0.25)
    torch.testing.assert_close(net.loss(image), error + divergence)


def test_vae_can_reach_every_colour_unless_told_to_do_as_released():
    black_and_white = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 64, 64)
    assert vae.build(vae.Config.tiny(), Setup(64, 0)).frame(black_and_white).abs().max() == 1
    released = vae.Config(imagenet_range=True, channels=(16, 32))
    assert vae.build(released, Setup(64, 0)).frame(black_and_white).abs().max() > 2


def test_dissimilarity_is_zero_for_equals_and_marks_an_added_edge():
    torch.manual_seed(0)
    image = torch.rand(2, 3, 64, 64)
    assert dissimilarity(image, image).abs().max() < 1e-6
    flat, marked = torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 64)
    marked[..., 28:36, 28:36] = 1
    found = dissimilarity(marked, flat)
    assert found[..., 24:40, 24:40].mean() > 10 * found[..., :16, :16].mean().clamp(min=1e-6)


def test_dissimilarity_of_a_ramp_by_hand():
    ramp = torch.arange(64.0).expand(1, 3, 64, 64) / 64
    inner = dissimilarity(ramp, torch.zeros_like(ramp))[..., 32, 32]
    steps = [2 * 2**scale / 64 for scale in range(4)]  # Prewitt over 3: the difference over two places
    wanted = 1 - sum(0.0026 / (step**2 + 0.0026) for step in steps) / 4
    torch.testing.assert_close(inner.item(), wanted, rtol=1e-4, atol=0)


def test_invad_has_the_published_size():
    """95.6 M parameters (arXiv:2404.10760), 24.86 M of them the encoder's."""
    with torch.device("meta"):
        net = Fuser([256, 512, 1024], [4, 8, 16], 64), invad.Generator([256, 512, 1024], 16, 64, 16)
    assert sum(map(count, net)) + 24_862_528 == 95_631_088
    assert net[1].constant.shape == (1, 1024, 16, 16)


def test_invad_restores_the_encoders_maps_from_style_maps():
    net, image = invert(), torch.rand(2, 3, 64, 64)
    features = list(net.encoder(image).values())
    assert [tuple(style.shape) for style in net.fuser(features)] == [(2, 64, 4, 4), (2, 64, 8, 8), (2, 64, 16, 16)]
    assert [made.shape for made in net.response(image)] == [real.shape for real in features]


def test_invad_loss_is_the_sum_of_mean_squared_errors():
    net, image = invert().eval(), torch.rand(2, 3, 64, 64)
    pairs = zip(net.encoder(image).values(), net.response(image), strict=True)
    torch.testing.assert_close(net.loss(image), sum((a - b).square().sum() / a.numel() for a, b in pairs))


def test_invad_scores_nothing_where_features_are_restored():
    net, image = invert().eval(), torch.rand(2, 3, 64, 64)
    net.generator.forward = lambda _: [2 * real for real in net.encoder(image).values()]  # length does not count
    assert net.predict(image).map.abs().max() < 1e-5


def test_invad_clips_its_gradient():
    net = invert()
    optimizer = net.optimizer()
    (1e6 * net.loss(torch.rand(2, 3, 64, 64))).backward()
    optimizer.step()
    gradients = [parameter.grad.flatten() for parameter in net.parameters() if parameter.grad is not None]
    assert torch.cat(gradients).norm() == pytest.approx(5.0, rel=1e-3)


def test_invad_refuses_strides_that_do_not_double():
    with pytest.raises(BadInput, match="strides that double"):
        Fuser([8, 8], [4, 16], 16)


def test_equal_convolution_keeps_the_variance():
    torch.manual_seed(0)
    made = EqualConv(64, 64, 3)(torch.randn(4, 64, 32, 32))
    assert made[..., 1:-1, 1:-1].var().item() == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("kernel", [1, 3])
def test_up_convolution_doubles_and_keeps_a_constant(kernel):
    up = UpConv(1, 1, kernel)
    up.weight.data.fill_(1.0)
    made = up(torch.ones(1, 1, 8, 8))
    assert made.shape == (1, 1, 16, 16)
    inner = made[..., 4:-4, 4:-4]
    weight = kernel**2 / kernel  # sum of the weights times the gain 1 / sqrt(kernel^2)
    torch.testing.assert_close(inner, torch.full_like(inner, weight))


def test_up_convolution_by_rate_starts_the_same_and_moves_less():
    torch.manual_seed(0)
    plain = UpConv(4, 4, 3)
    torch.manual_seed(0)
    slow = UpConv(4, 4, 3, rate=0.01)
    x = torch.randn(1, 4, 8, 8)
    torch.testing.assert_close(slow(x), plain(x), rtol=1e-4, atol=1e-5)
    before = plain(x)
    for net in (plain, slow):
        net.weight.data += 1
    torch.testing.assert_close(slow(x) - before, 0.01 * (plain(x) - before), rtol=1e-3, atol=1e-5)
