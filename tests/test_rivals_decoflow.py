"""DeCoFlow: what its specification says must hold exactly."""

import math

import pytest
import torch
from mini import RANDOM, build, train

from bench.api import Setup, trainable
from bench.data import rows_of
from methods.detectors.decoupled_flow import Config, DecoupledFlow, Flow, is_of_task

pytestmark = pytest.mark.slow


def random_flow(width: int) -> Flow:
    torch.manual_seed(0)
    flow = Flow(Config(width=width, couplings=2, hidden=6, rank=2))
    for parameter in trainable(flow):
        torch.nn.init.normal_(parameter, std=0.2)
    return flow.double()


def test_the_log_determinant_is_autograds():
    """Of the couplings on one patch, which sees no other; alignment and mixer stand before the flow."""
    flow = random_flow(8)
    patch = torch.randn(8, dtype=torch.float64)

    def couple(x):
        x = x[None]
        for coupling in flow.couplings:
            coupling.subnet.grid = (1, 1, 1)
            (x,), _ = coupling((x,))
        for coupling in flow.task_couplings:
            x, _ = coupling(x)
        return x[0]

    total = 0
    x = patch[None]
    for coupling in flow.couplings:
        coupling.subnet.grid = (1, 1, 1)
        (x,), gained = coupling((x,))
        total = total + gained
    for coupling in flow.task_couplings:
        x, gained = coupling(x)
        total = total + gained
    jacobian = torch.autograd.functional.jacobian(couple, patch)
    assert torch.allclose(torch.linalg.slogdet(jacobian).logabsdet, total[0])


def test_adapters_that_start_leave_the_base_as_it_is():
    torch.manual_seed(0)
    flow, grid = Flow(Config(width=8, couplings=2, hidden=6, rank=2)), torch.randn(1, 3, 3, 8)
    before = flow(grid)
    flow.reset_task(later=True)
    assert math.isclose(float(0.5 + 1.5 * flow.task_scale.detach().sigmoid()[0]), 1.25)
    torch.nn.init.constant_(flow.task_scale, -math.log(2))  # the scale of the first step
    assert all(torch.equal(old, new) for old, new in zip(before, flow(grid), strict=True))


def test_the_base_is_frozen_after_the_first_step_and_routed_right_rows_are_constant(stream, arrays):
    strategy = build("decoflow", "decoupled_flow")
    images = torch.from_numpy(arrays.images[rows_of(arrays, [0], train=False)]).movedim(-1, 1).float() / 255
    said, bases = [], []
    for step in range(2):
        train(strategy, stream, arrays, method="decoflow", first=step, last=step + 1)
        strategy.model.eval()
        weights = strategy.model.flow.named_parameters()
        bases.append({name: value.detach().clone() for name, value in weights if not is_of_task(name)})
        memories = strategy.methods[0].memories
        strategy.model.route_to(memories[:1])
        with torch.no_grad():
            said.append(strategy.model.predict(images))
        strategy.model.route_to(memories)
    assert all(torch.equal(value, bases[1][name]) for name, value in bases[0].items())
    assert torch.equal(said[0].score, said[1].score) and torch.equal(said[0].map, said[1].map)
    up = "couplings.0.subnet.scale.0.task_up"
    assert memories[1]["adapters"][up].abs().sum() > 0


def test_a_shrunk_covariance_serves_where_images_are_fewer_than_numbers():
    torch.manual_seed(0)
    pictures = torch.rand(4, 3, 64, 64)
    scale = []
    for shrunk in (False, True):
        detector = DecoupledFlow(Config.tiny(), Setup(64, 0, "cpu", RANDOM))
        detector.config = Config(width=32, ledoit_wolf=shrunk)
        detector.consolidate([pictures])
        scale.append(float(torch.linalg.eigvalsh(detector.precision.double())[-1]))
    assert scale[0] > 0.9e5 and scale[1] < scale[0]
