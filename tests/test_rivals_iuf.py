"""IUF and UniAD: what their specification says must hold exactly."""

from dataclasses import replace

import pytest
import torch
from mini import build, config_of, seed_everything, seed_for, setup_for, train

from bench import registry
from bench.api import Setup
from methods import iuf
from methods.iuf.directions import Compression, basis, weigh

pytestmark = pytest.mark.slow


def test_directions_are_orthonormal_and_the_strongest_is_frozen():
    torch.manual_seed(0)
    outputs = torch.randn(50, 8) * torch.tensor([5.0, 4, 3, 2, 1, 0.5, 0.2, 0.1])
    directions = basis(outputs.T @ outputs)
    assert torch.allclose(directions @ directions.T, torch.eye(8), atol=1e-5)
    assert torch.allclose(directions.abs(), torch.linalg.svd(outputs).Vh.abs(), atol=1e-3)
    gradient = torch.randn(8, 4)
    left = directions @ weigh(gradient, directions)
    assert left[0].abs().max() < 1e-6
    assert torch.allclose(left[-1], (directions @ gradient)[-1], atol=1e-5)


def test_compression_sees_small_singular_values_only():
    layer = torch.nn.Identity()
    compression = Compression([layer], 4)
    layer(torch.eye(4)[:, None] * torch.tensor([1.0, 1.0, 1.0, 0.03]))
    loss = compression.loss()
    assert abs(float(loss) - 0.03 / 3.03) < 1e-6
    compression.stop()
    layer(torch.eye(4)[:, None])
    assert not compression.now


def strategy_of(method: str, **options):
    entry = registry.find_entry("detector", "uniad")
    seed_everything(seed_for(0, "detector"))
    detector = entry.load().build(config_of(entry), setup_for(entry))
    seed_everything(seed_for(0, "method"))
    module = registry.find_entry("method", method).load()
    setup: Setup = replace(setup_for(entry), detector=detector)
    return module.build(replace(module.Config.tiny(), **options), setup)


def test_without_its_three_parts_it_is_fine_tuning(stream, arrays):
    bare = strategy_of("iuf", attention=False, compression=0.0, subspace=False)
    plain = strategy_of("finetune")
    for strategy, method in ((bare, "iuf"), (plain, "finetune")):
        train(strategy, stream, arrays, method=method, last=2)
    same = zip(bare.model.state_dict().items(), plain.model.state_dict().items(), strict=True)
    assert all(torch.equal(one, other) for (_, one), (_, other) in same)


def test_every_part_acts(stream, arrays):
    strategy = build("iuf", "uniad")
    (plugin,) = strategy.methods
    train(strategy, stream, arrays, method="iuf", last=1)
    before = {name: value.clone() for name, value in strategy.model.named_parameters()}
    classifier = [name for name in before if name.startswith("object_attention.head")]
    assert classifier and not plugin.bases and len(plugin.moments) == len(plugin.blocks)
    train(strategy, stream, arrays, method="iuf", first=1, last=2)
    after = dict(strategy.model.named_parameters())
    assert isinstance(strategy.optimizer, torch.optim.SGD) and len(plugin.bases) == len(plugin.blocks)
    assert all(not torch.equal(before[name], after[name]) for name in classifier)
    for block, directions in zip(plugin.blocks, plugin.bases, strict=True):
        name = next(name for name, module in strategy.model.named_modules() if module is block)
        moved = directions @ (after[f"{name}.weight"] - before[f"{name}.weight"])
        rounding = 1e-6 * after[f"{name}.weight"].norm()  # of a few additions to the weights
        assert moved[0].norm() < rounding < moved[1:].norm(), "the strongest direction has moved"


def test_its_file_says_that_it_reads_labels():
    assert iuf.CAPABILITIES == ("labels",)
