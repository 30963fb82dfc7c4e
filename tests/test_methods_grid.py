"""What the bounds and the continual variants of single detectors keep, and what they predict with."""

import io

import pytest
import torch
from given import held_bytes
from mini import build as build_cell
from mini import scores
from mini import train as train_cell
from toy import IMAGES, SIZE, Linear, Noisy, images, strategy, train

from bench.data import rows_of
from bench.errors import BadInput
from bench.schema.stream import Stream
from methods import cl_cfa, cl_padim, cumulative, finetune, single

pytestmark = pytest.mark.slow

BYTES = 3 * SIZE * SIZE  # of an image


def saved(built) -> dict:
    """The plugin's state, through a file."""
    file = io.BytesIO()
    torch.save(built.methods[0].state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_cumulative_trains_on_everything_so_far_and_counts_it():
    built = strategy(cumulative)
    for step in range(3):
        train(built, first=step, last=step + 1)
        assert built.train_images == Noisy.epochs * IMAGES * (step + 1)
        assert held_bytes(built.methods[0].state_dict()) == BYTES * IMAGES * (step + 1)
    kept = built.methods[0].images.float() / 255
    assert torch.allclose(kept, torch.cat([images(t) for t in range(3)]), atol=1e-6)


def test_cumulative_goes_on_from_its_state():
    one, two = strategy(cumulative), strategy(cumulative)
    train(one, last=2, reseed=True)
    two.model.load_state_dict(one.model.state_dict())
    two.methods[0].load_state_dict(saved(one))
    for built in (one, two):
        train(built, first=2, reseed=True)
    assert all(torch.equal(a, b) for a, b in zip(one.model.parameters(), two.model.parameters(), strict=True))


def weights_of(built) -> list[torch.Tensor]:
    return [weight.detach().clone() for weight in built.model.parameters()]


def equal(one: list, two: list) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_single_learns_each_step_from_the_same_start():
    """Step 2 of `single` is what fine-tuning makes of step 2 when nothing was before it."""
    built, alone = strategy(single), strategy(finetune)
    train(built, labels=True, reseed=True)
    train(alone, first=2, reseed=True)
    assert equal(weights_of(built), weights_of(alone))


def test_single_brings_back_the_model_of_the_class_evaluated():
    stream = Stream("toy/2-1", 1, "none", (("a", "b"), ("c",)), SIZE, {}, "tests")
    built, seen = strategy(single), []
    made = train(built, last=1, labels=True, stream=stream)
    first = weights_of(built)
    train(built, first=1, last=2, labels=True, stream=stream)
    second = weights_of(built)
    for column in (0, 1, 2):
        built.eval([made.test_stream[column]])
        seen.append(weights_of(built))
    assert [equal(each, first) for each in seen] == [True, True, False]
    assert equal(seen[2], second)
    assert built.methods[0].step_of == {0: 0, 1: 0, 2: 1}


def test_single_carries_every_trained_state_but_no_frozen_weight():
    built = strategy(single)
    frozen = held_bytes([built.model.frozen.weight, built.model.frozen.bias])
    state = held_bytes(dict(built.model.state_dict())) - frozen
    for step in range(3):
        train(built, first=step, last=step + 1, labels=True)
        mapping = 8 * (step + 1)  # class -> step
        assert held_bytes(built.methods[0].state_dict()) == state * (step + 2) + mapping


def test_single_goes_on_from_its_state():
    one, two = strategy(single), strategy(single, seed=5)  # another start, which the state replaces
    made = train(one, last=2, labels=True, reseed=True)
    two.model.load_state_dict(one.model.state_dict())
    two.methods[0].load_state_dict(saved(one))
    for built in (one, two):
        train(built, first=2, labels=True, reseed=True)
    assert equal(weights_of(one), weights_of(two))
    for built in (one, two):
        built.eval([made.test_stream[0]])
    assert equal(weights_of(one), weights_of(two))


@pytest.fixture(scope="module")
def statistics(stream, arrays):
    """Mean (D, P) and covariance (P, D, D) of the first two steps, with anomalib's 0.01 + 1e-5 on the diagonal."""
    model = build_cell("finetune", "padim").model.eval()
    found = []
    for step in range(2):
        image = torch.from_numpy(arrays.images[rows_of(arrays, [step], train=True)]).movedim(-1, 1).float() / 255
        with torch.no_grad():
            embedding = model.net.generate_embedding(model.net.feature_extractor(image)).flatten(2).double()
        centred = (embedding - embedding.mean(0)).movedim(2, 0)  # (P, N, D)
        covariance = centred.mT @ centred / (len(image) - 1) + 0.01001 * torch.eye(embedding.shape[1])
        found.append((embedding.mean(0), covariance))
    return found


@pytest.mark.parametrize("average", ["covariance", "inverse"])
def test_cl_padim_is_the_mean_of_the_steps_statistics(average, statistics, stream, arrays):
    built = build_cell("cl_padim", "padim")
    built.methods[0].config = cl_padim.Config(average)
    train_cell(built, stream, arrays, last=2)
    (mean0, covariance0), (mean1, covariance1) = statistics
    gaussian = built.model.net.gaussian
    assert torch.allclose(gaussian.mean.double(), (mean0 + mean1) / 2, atol=1e-5)
    if average == "covariance":
        expected = torch.linalg.inv((covariance0 + covariance1) / 2)
    else:
        expected = (torch.linalg.inv(covariance0) + torch.linalg.inv(covariance1)) / 2
    assert (gaussian.inv_covariance - expected).abs().max() < 1e-3 * expected.abs().max()


def test_cl_padim_weighs_every_step_alike_and_carries_one_field(stream, arrays):
    built = build_cell("cl_padim", "padim")
    means, sizes = [], []
    for step in range(3):
        fresh = build_cell("finetune", "padim")
        train_cell(fresh, stream, arrays, first=step, last=step + 1)
        means.append(fresh.model.net.gaussian.mean)
        train_cell(built, stream, arrays, first=step, last=step + 1)
        sizes.append(held_bytes(built.methods[0].state_dict()))
    assert torch.allclose(built.model.net.gaussian.mean, torch.stack(means).mean(0), atol=1e-5)
    channels, positions = means[0].shape
    assert sizes == [4 * positions * (channels**2 + channels) + 8] * 3  # the paper's 3136 · (350² + 350) · 4 B


def test_cl_padim_on_one_step_is_padim(stream, arrays):
    rows = rows_of(arrays, [0], train=False)
    one, two = build_cell("cl_padim", "padim"), build_cell("finetune", "padim")
    for built in (one, two):
        train_cell(built, stream, arrays, last=1)
    assert torch.allclose(scores(one, arrays, rows), scores(two, arrays, rows), rtol=1e-3)


def test_cl_padim_names_a_wrong_average():
    with pytest.raises(BadInput, match="'median' is none of covariance, inverse"):
        cl_padim.Config("median")


class Centroid(Linear):
    """The centroid of a step is the mean over its batches of their mean colour."""

    batch_size = 4

    def __init__(self):
        super().__init__()
        self.register_buffer("centroid", torch.empty(0))
        self.batches = 0

    def prepare(self, images):
        means = [image.mean((0, 2, 3)) for image in images]
        self.centroid, self.batches = torch.stack(means).mean(0), len(means)

    def merge_centroid(self, centroid, batches):
        total = self.batches + batches
        self.centroid = (self.centroid * self.batches + centroid * batches) / total
        self.batches = total


def test_cl_cfa_runs_its_mean_over_all_batches():
    built, seen = strategy(cl_cfa, Centroid), []
    for step in range(3):
        train(built, first=step, last=step + 1)
        seen.append(images(step).mean((2, 3)).split(Centroid.batch_size))
        every = torch.stack([batch.mean(0) for batches in seen for batch in batches])
        assert torch.allclose(built.model.centroid, every.mean(0), atol=1e-6)
        assert built.methods[0].state_dict()["batches"] == len(every)
        assert held_bytes(built.methods[0].state_dict()) == 4 * 3 + 8


def test_cl_cfa_goes_on_from_its_state():
    one, two = strategy(cl_cfa, Centroid), strategy(cl_cfa, Centroid)
    train(one, last=2, reseed=True)
    two.model.load_state_dict(one.model.state_dict())
    two.methods[0].load_state_dict(saved(one))
    for built in (one, two):
        train(built, first=2, reseed=True)
    assert torch.equal(one.model.centroid, two.model.centroid)
    assert equal(weights_of(one), weights_of(two))
