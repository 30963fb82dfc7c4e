"""What holds old knowledge in place: against closed forms, and nothing at all at strength 0."""

import copy
import random

import numpy as np
import pytest
import torch
from avalanche.core import BaseSGDPlugin
from toy import IMAGES, Linear, Noisy, assert_continues, images, same, strategy, train

from methods import agem, der, ewc, finetune, latent_replay, lwf, mas, replay, si
from methods._gradients import mean_over
from methods._reservoir import Reservoir
from methods._without_trace import drift, without_trace

pytestmark = pytest.mark.slow

OFF = {ewc: {"strength": 0.0}, si: {"strength": 0.0}, mas: {"strength": 0.0}, lwf: {"strength": 0.0},
       der: {"strength": 0.0, "memory": 8}, agem: {"memory": 0}}  # fmt: skip
ON = {ewc: {}, si: {}, mas: {}, lwf: {}, der: {"memory": 8}, agem: {"memory": 8}}
name_of = {"ids": lambda value: value.__name__.rpartition(".")[2] if hasattr(value, "__name__") else ""}


class Spy(BaseSGDPlugin, supports_distributed=False):
    """Calls functions of the strategy at the callbacks named."""

    def __init__(self, **callbacks):
        super().__init__()
        for name, function in callbacks.items():
            setattr(self, name, lambda strategy, function=function, **_: function(strategy))


@pytest.fixture(scope="module")
def finetuned():
    built = strategy(finetune)
    train(built)
    return built.model


@pytest.mark.parametrize("method", OFF, **name_of)
def test_strength_zero_is_fine_tuning_bit_for_bit(method, finetuned):
    """No generator is started anew between the steps here, so a single draw too many would show."""
    built = strategy(method, **OFF[method])
    train(built)
    assert same(built.model, finetuned)


@pytest.mark.parametrize("method", ON, **name_of)
def test_at_the_paper_strength_it_is_not_fine_tuning(method, finetuned):
    built = strategy(method, **ON[method])
    train(built)
    assert not same(built.model, finetuned)


@pytest.mark.parametrize("method", ON, **name_of)
def test_state_dict_continues_to_the_same_weights(method):
    one, two = strategy(method, **ON[method]), strategy(method, seed=7, **ON[method])  # the state replaces the seed
    assert_continues(one, two)


def test_looking_at_a_detector_leaves_no_trace():
    detector = Noisy().train()
    before, modes = copy.deepcopy(detector.state_dict()), [module.training for module in detector.modules()]
    generators = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    importance = mean_over(images(0).split(1), detector, detector.loss, torch.square)
    weights = {name for name, weight in detector.named_parameters() if weight.requires_grad}
    assert importance.keys() == weights - {"unused"}, "what takes no part in the loss must stay without a gradient"
    assert all(torch.equal(value, before[name]) for name, value in detector.state_dict().items())
    assert [module.training for module in detector.modules()] == modes
    assert random.getstate() == generators[0]
    assert np.array_equal(np.random.get_state()[1], generators[1])
    assert torch.equal(torch.get_rng_state(), generators[2])
    assert all(weight.grad is None for weight in detector.parameters())


def test_without_trace_it_responds_as_at_test_time():
    detector = Noisy().train()
    with without_trace(detector):
        steadily = detector.response(images(0))
    detector.eval()
    assert all(torch.equal(a, b) for a, b in zip(steadily, detector.response(images(0)), strict=True))


class Scaled(Linear):
    """Under Adam, to which the size of a loss is nothing."""

    size = 1.0

    def optimizer(self):
        return torch.optim.Adam(self.parameters(), lr=0.03, eps=1e-30)

    def loss(self, image: torch.Tensor) -> torch.Tensor:
        return self.size * super().loss(image)


class Large(Scaled):
    size = 1e6


@pytest.mark.parametrize("method", [ewc, si, mas, lwf, der], **name_of)
def test_a_strength_means_the_same_whatever_the_size_of_the_loss(method):
    """The committed penalties were once inert on one detector and froze another, with losses a million-fold apart."""
    options = {"memory": 8} if method is der else {}
    ends = []
    for detector in (Scaled, Large):
        built = strategy(method, detector, **options)
        train(built)
        ends.append(built.model.weight.detach())
    finetuned = strategy(finetune, Scaled)
    train(finetuned)
    assert torch.allclose(*ends, rtol=1e-3)
    assert (ends[0] - finetuned.model.weight).norm() > 0.01 * finetuned.model.weight.norm()


def test_at_strength_one_the_penalty_pulls_from_where_the_last_step_began_as_the_loss_pushes_where_this_one_begins():
    starts = []
    note = Spy(before_training_exp=lambda strategy: starts.append(strategy.model.weight.detach().clone()))
    built = strategy(ewc, Linear, spies=[note], strength=1.0)
    train(built, last=2)
    detector = Linear(starts[1].tolist())
    (push,) = torch.autograd.grad(detector.loss(images(1)), detector.weight)
    # the importance and the anchor that held during the second step are those of the first
    first = fisher_by_hand(0, starts[1])
    pull = 2 * built.methods[0].strength.factor * first * (starts[0] - starts[1])
    assert pull.norm().item() == pytest.approx(push.norm().item(), rel=1e-3)


def colours(step: int) -> torch.Tensor:
    return images(step).mean((2, 3))


def fisher_by_hand(step: int, weight: torch.Tensor) -> torch.Tensor:
    c = colours(step)
    return (2 * (c @ weight - c[:, 0] * c[:, 1])[:, None] * c).square().mean(0)


def after_each_step(method, **options):
    """Train two steps; return the strategy and the weights after each."""
    weights = []
    note = Spy(after_training_exp=lambda strategy: weights.append(strategy.model.weight.detach().clone()))
    built = strategy(method, Linear, spies=[note], **options)
    train(built, last=2)
    return built, weights


def test_ewc_pulls_like_one_fisher_penalty_per_step():
    strength = 7.0
    built, ends = after_each_step(ewc, absolute=strength)
    theta = torch.tensor([0.1, 0.2, -0.4], requires_grad=True)
    fishers = [fisher_by_hand(step, end) for step, end in enumerate(ends)]
    penalty = sum(strength / 2 * (f * (theta - end) ** 2).sum() for f, end in zip(fishers, ends, strict=True))
    (expected,) = torch.autograd.grad(penalty, theta)
    assert torch.allclose(pull_of(built, theta), expected, rtol=1e-4)


@pytest.mark.parametrize("method", [mas, si], **name_of)
def test_mas_and_si_pull_to_where_the_last_step_ended(method):
    built, ends = after_each_step(method, absolute=3.0)
    importance = built.methods[0].importance["weight"]
    assert (importance >= 0).all()
    assert importance.any()
    theta = torch.tensor([0.1, 0.2, -0.4], requires_grad=True)
    (expected,) = torch.autograd.grad(3.0 * (importance * (theta - ends[1]) ** 2).sum(), theta)
    assert torch.allclose(pull_of(built, theta), expected, rtol=1e-5)


def pull_of(built, theta: torch.Tensor) -> torch.Tensor:
    """The gradient that the plugin adds at the weights `theta`."""
    built.model.weight.data = theta.detach().clone()
    built.model.weight.grad = torch.zeros(3)
    built.methods[0].before_update(built)
    return built.model.weight.grad


def test_mas_importance_by_hand():
    """The response to an image is w · c, so its squared norm has the gradient 2 (w · c) c."""
    built, ends = after_each_step(mas)
    by_hand = sum((2 * (colours(t) @ end)[:, None] * colours(t)).abs().mean(0) for t, end in enumerate(ends))
    assert torch.allclose(built.methods[0].importance["weight"], by_hand, rtol=1e-5)


def test_si_path_integral_by_hand():
    """Repeat the training by hand on the batches that it saw: gradient of the loss alone times the way gone."""
    batches, steps = [], []
    spy = Spy(
        before_forward=lambda strategy: batches.append(strategy.mbatch.image),
        after_training_exp=lambda strategy: steps.append(len(batches)),
    )
    strength, damping = 3.0, 0.05
    built = strategy(si, Linear, spies=[spy], absolute=strength, damping=damping)
    train(built, last=2)

    detector = Linear()
    omega, anchor = torch.zeros(3), torch.zeros(3)
    for seen in (batches[: steps[0]], batches[steps[0] :]):
        optimizer, start, gain = detector.optimizer(), detector.weight.detach().clone(), torch.zeros(3)
        for image in seen:
            place = detector.weight.detach().clone()
            (gradient,) = torch.autograd.grad(detector.loss(image), detector.weight)
            detector.weight.grad = gradient + 2 * strength * omega * (place - anchor)
            optimizer.step()
            gain -= gradient * (detector.weight.detach() - place)
        anchor = detector.weight.detach().clone()
        omega = omega + gain.clamp_min(0) / ((anchor - start) ** 2 + damping)
    assert torch.allclose(built.model.weight, detector.weight, rtol=1e-5)
    assert torch.allclose(built.methods[0].importance["weight"], omega, rtol=1e-4)


def test_lwf_adds_nothing_until_the_weights_move():
    before, after = [], []
    first = Spy(before_backward=lambda strategy: before.append(strategy.loss.item()))
    last = Spy(before_backward=lambda strategy: after.append(strategy.loss.item()))
    built = strategy(lwf, Linear, spies=[last], strength=100.0)
    built.plugins.insert(0, first)
    train(built, last=2)
    added = np.subtract(after, before)
    per_step = len(added) // 2
    assert not added[: per_step + 1].any(), "nothing in the first step, and at the start of the second nothing yet"
    assert (added[per_step + 1 :] > 0).all()


def test_lwf_holds_the_response_and_shares_what_is_frozen():
    teachers = []
    spy = Spy(before_training_epoch=lambda strategy: teachers.append(strategy.methods[0].teacher))
    moved = {}
    for strength in (0.0, 100.0):
        built = strategy(lwf, Noisy, spies=[spy], strength=strength)
        train(built, last=1)
        with without_trace(built.model, by_batch=True), torch.no_grad():
            then = built.model.response(images(1))
        train(built, first=1, last=2)
        with without_trace(built.model, by_batch=True), torch.no_grad():
            moved[strength] = drift(built.model.response(images(1)), then).item()
    assert moved[100.0] < 0.2 * moved[0.0]
    assert teachers[-1].frozen.weight is built.model.frozen.weight
    assert teachers[-1].norm.weight is not built.model.norm.weight
    assert built.methods[0].teacher is None


def test_projection_takes_away_exactly_what_opposes():
    torch.manual_seed(0)
    for _ in range(20):
        g, r = ([torch.randn(3, 2), torch.randn(5)] for _ in range(2))
        flat, reference = (torch.cat([part.flatten() for part in parts]) for parts in (g, r))
        agem.project(g, r)
        projected = torch.cat([part.flatten() for part in g])
        along = flat @ reference
        assert projected @ reference >= -1e-5
        if along >= 0:
            assert torch.equal(projected, flat)
        else:
            assert torch.allclose(projected, flat - along / (reference @ reference) * reference, atol=1e-6)


def test_agem_never_opposes_the_memory():
    """With a memory of one batch the reference is the gradient on all of it."""
    opposed, dots = [], []

    def along(strategy) -> float:
        memory = strategy.methods[0].memory
        if not len(memory):
            return 0.0
        loss = strategy.model.loss(memory.read(torch.arange(len(memory)), "cpu"))
        (reference,) = torch.autograd.grad(loss, strategy.model.weight)
        return (strategy.model.weight.grad @ reference).item()

    first = Spy(after_backward=lambda strategy: opposed.append(along(strategy) < -1e-7))
    last = Spy(before_update=lambda strategy: dots.append(along(strategy)))
    built = strategy(agem, Linear, spies=[last], memory=Linear.batch_size)
    built.plugins.insert(0, first)
    train(built)
    assert any(opposed)
    assert min(dots) >= -1e-6


def test_what_remembers_images_remembers_as_many():
    for config in (der.Config, agem.Config, latent_replay.Config):
        assert (config().memory, config.tiny().memory) == (replay.Config().memory, replay.Config.tiny().memory)


def test_der_stores_the_responses_of_their_day():
    held = []
    spy = Spy(after_training_exp=lambda strategy: held.append(copy.deepcopy(strategy.methods[0].state_dict())))
    built = strategy(der, Noisy, spies=[spy], memory=8)
    train(built, last=1)
    with without_trace(built.model):
        expected = built.model.response(held[0]["images"].float() / 255)
    assert held[0]["images"].shape == (8, 3, 8, 8)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(held[0]["responses"], expected, strict=True))

    train(built, first=1, last=2)
    kept = torch.isin(held[0]["lots"], held[1]["lots"])
    assert 0 < kept.sum() < 8
    for one, two in zip(held[0]["responses"], held[1]["responses"], strict=True):
        assert torch.equal(one[kept], two[: kept.sum()]), "responses once stored do not change"
        assert len(two) == 8


def test_der_goes_on_where_no_image_of_a_step_joins_the_memory(monkeypatch):
    class Reshaping(Noisy):
        def response(self, image):
            made, colour = super().response(image)
            return [made, colour.reshape(len(image), -1)]  # refuses to be asked for no image

    joined, offer = [], Reservoir.offer

    def counting(memory, strategy):
        found = offer(memory, strategy)
        joined.append(len(found[1]))
        return found

    monkeypatch.setattr(Reservoir, "offer", counting)
    built = strategy(der, Reshaping, memory=1)
    train(built)
    assert 0 in joined and [len(part) for part in built.methods[0].responses] == [1, 1]


def test_importance_counts_only_images_that_something_is_learned_of():
    detector, (first, second, held) = Noisy(), images(0)[:3].split(1)

    def energy(image):
        return image.new_zeros(()) if image is held else detector.response(image)[0].square().mean()

    expected = mean_over([first, second], detector, energy, torch.square)
    found = mean_over([first, held, second], detector, energy, torch.square)
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)


def test_a_reservoir_is_a_uniform_choice_of_all_images():
    shares = []
    for seed in range(40):
        memory = Reservoir(9, seed)
        train(strategy(finetune, Linear, spies=[Spy(after_training_exp=lambda strategy, m=memory: m.offer(strategy))]))
        colour = memory.images.float().mean((2, 3)) / 255
        red = torch.stack([colours(t)[:, 0].mean() for t in range(3)])
        step = (colour[:, :1] - red).abs().argmin(1)
        shares.append(torch.bincount(step, minlength=3) / 9)
        assert len(memory) == 9 <= IMAGES
    assert torch.allclose(torch.stack(shares).mean(0), torch.full((3,), 1 / 3), atol=0.06)


def test_a_spring_too_stiff_for_sgd_holds_instead_of_diverging():
    ends = []
    note = Spy(after_training_exp=lambda strategy: ends.append(strategy.model.weight.detach().clone()))
    built = strategy(ewc, Linear, spies=[note], strength=1e12)
    train(built)
    assert built.model.weight.isfinite().all()
    assert (ends[2] - ends[0]).norm() < 0.5


def test_statistics_of_the_batch_leave_no_trace():
    detector = Noisy().train()
    before = copy.deepcopy(detector.state_dict())
    with without_trace(detector, by_batch=True):
        made = detector.norm(torch.randn(64, 4, 8, 8) * 5 + 3)
    assert torch.allclose(made.mean((0, 2, 3)), torch.zeros(4), atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in detector.state_dict().items())
    assert detector.norm.training
    assert detector.norm.track_running_stats


def test_drift_is_relative_to_the_earlier_response():
    then = [torch.full((2, 3), 4.0), torch.full((2, 5, 5), 0.01)]
    assert drift(then, then) == 0
    assert torch.isclose(drift([torch.zeros_like(part) for part in then], then), torch.tensor(1.0))
