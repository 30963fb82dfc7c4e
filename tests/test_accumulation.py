"""Batches in parts where memory is short: the same gradient, nothing changed where they fit, and it is told."""

import pytest
import torch
import toy
from command import BASE, tables
from mini import build
from torch import Tensor, nn

from bench import results
from bench.api import Detector, Prediction
from bench.training.auto_batch import AutoBatch, in_parts
from methods import agem, ewc, finetune, lwf, replay

pytestmark = pytest.mark.slow

FULL = torch.OutOfMemoryError("CUDA out of memory. (as a test has it)")


class Heavy(torch.autograd.Function):
    """Passes a tensor on, unless the gradient of more than `most` images is asked for."""

    @staticmethod
    def forward(ctx, x: Tensor, most: int) -> Tensor:
        ctx.most = most
        return x.clone()

    @staticmethod
    def backward(ctx, gradient: Tensor):
        if len(gradient) > ctx.most:
            raise FULL
        return gradient, None


class Plain(Detector):
    """A convolution whose loss is a mean over images; of more than `most` it runs out of memory, here or there."""

    epochs, batch_size = 2, 4

    def __init__(self, most: int = 99, *, backward: bool = False, error: RuntimeError = FULL):
        super().__init__()
        self.most, self.late, self.error = most, backward, error
        self.net = nn.Sequential(nn.Conv2d(3, 4, 3, 1, 1), nn.Tanh(), nn.Conv2d(4, 3, 1))
        self.shown = []

    def optimizer(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def response(self, image: Tensor) -> list[Tensor]:
        return [self.net(image)]

    def loss(self, image: Tensor) -> Tensor:
        self.shown.append(len(image))
        if len(image) > self.most and not self.late:
            raise self.error
        made = self.net(image)
        return (Heavy.apply(made, self.most if self.late else 99) - image).square().mean()

    def predict(self, image: Tensor) -> Prediction:
        error = (self.net(image) - image).square().mean(1, keepdim=True)
        return Prediction(error.amax((1, 2, 3)), error)


def gradient(detector: Detector, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, [w for w in detector.parameters() if w.requires_grad]))


def flat(gradients: list[Tensor]) -> Tensor:
    return torch.cat([part.flatten() for part in gradients])


@pytest.mark.parametrize("name", ["fastflow", "stfpm"], ids=["a mean over images", "a sum over images"])
@pytest.mark.parametrize("parts", [2, 3])
def test_the_gradient_of_parts_is_that_of_the_whole(name, parts, arrays):
    detector = build("finetune", name).model.eval()  # batch norms by their running statistics
    image = torch.from_numpy(arrays.images[:8].copy()).movedim(-1, 1).float() / 255
    whole, split = detector.loss(image), in_parts(detector, image, parts)
    assert torch.allclose(whole, split, rtol=1e-5)
    one, other = flat(gradient(detector, whole)), flat(gradient(detector, split))
    assert (one - other).norm() <= 1e-5 * one.norm() and one.norm() > 0


def test_what_a_method_makes_of_the_loss_acts_on_all_parts(arrays):
    torch.manual_seed(0)
    detector, image = Plain(), torch.rand(8, 3, 8, 8)
    penalty = sum(weight.square().sum() for weight in detector.parameters())
    whole = gradient(detector, 3 * detector.loss(image) + penalty)
    penalty = sum(weight.square().sum() for weight in detector.parameters())
    split = gradient(detector, 3 * in_parts(detector, image, 4) + penalty)
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(whole, split, strict=True))


def trained(make, auto: AutoBatch | None, method=finetune):
    """A strategy after the first two steps of the toy stream."""
    strategy = toy.strategy(method, make)
    strategy.auto_batch = auto
    toy.train(strategy, last=2, reseed=True)
    return strategy


@pytest.mark.parametrize("method", [finetune, lwf, ewc, agem, replay], ids=lambda module: module.__name__)
def test_nothing_changes_where_everything_fits(method):
    with_it, without = trained(toy.Noisy, AutoBatch(pytest.fail), method), trained(toy.Noisy, None, method)
    assert toy.same(with_it.model, without.model)
    assert with_it.auto_batch.micro_batch == (8 if method is replay else 4)


@pytest.mark.parametrize("late", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("method", [finetune, lwf, replay], ids=lambda module: module.__name__)
def test_a_batch_that_does_not_fit_is_halved_until_it_does(method, late):
    heard = []
    split = trained(lambda: Plain(most=2, backward=late), AutoBatch(heard.append), method)
    whole = trained(Plain, None, method)
    for one, other in zip(whole.model.state_dict().values(), split.model.state_dict().values(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)
    assert split.auto_batch.micro_batch == 2 and split.train_images == whole.train_images
    batches = {finetune: [4], lwf: [4], replay: [4, 8]}[method]  # of the first step, and of the second
    assert f"a batch of {batches[0]} does not fit the memory {batches[0]} at a time: goes on with 2" in heard[0]
    assert max(split.model.shown[-3:]) == 2, "once is enough within a step"


def test_not_even_one_image_is_an_error_with_a_way_out():
    with pytest.raises(torch.OutOfMemoryError) as caught:
        trained(lambda: Plain(most=0), AutoBatch())
    assert "give a smaller --image-size" in caught.value.__notes__[0]


def test_the_allocator_of_a_cpu_is_understood_and_other_errors_are_not():
    message = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried ..."
    assert trained(lambda: Plain(most=2, error=RuntimeError(message)), AutoBatch()).auto_batch.micro_batch == 2
    with pytest.raises(RuntimeError, match="shapes"):
        trained(lambda: Plain(most=2, error=RuntimeError("shapes do not match")), AutoBatch())
    with pytest.raises(torch.OutOfMemoryError):
        trained(lambda: Plain(most=2), None)


PLUGIN = """\"\"\"A detector that holds three images at a time.\"\"\"
from dataclasses import dataclass

import torch
from torch import nn

from bench.api import Detector, Prediction

TRAITS = ("gradient",)


@dataclass(frozen=True)
class Config:
    most: int = 3

    @classmethod
    def tiny(cls):
        return cls()


def build(config, setup) -> Detector:
    return Short(config)


class Short(Detector):
    epochs, batch_size = 1, 8

    def __init__(self, config):
        super().__init__()
        self.most, self.net = config.most, nn.Conv2d(3, 3, 3, 1, 1)

    def optimizer(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def loss(self, image):
        if len(image) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return (self.net(image) - image).square().mean()

    def predict(self, image):
        error = (self.net(image) - image).square().mean(1, keepdim=True)
        return Prediction(error.amax((1, 2, 3)), error)
"""


def test_a_cell_tells_and_records_it(bench, tmp_path):
    (tmp_path / "short.py").write_text(PLUGIN)
    short = (*BASE[:3], "--detectors", "short", *BASE[5:], "--plugin", "short.py")
    code, out = bench(*short)
    assert code == 1 and "The memory of cpu is too small for this: try --auto-batch" in out, out
    code, out = bench(*short, "--auto-batch")
    assert code == 0, out
    assert "a batch of 8 does not fit the memory 8 at a time: goes on with 4 at a time" in out
    assert "goes on with 2 at a time, gradients added up" in out
    found = {bool(one["spec"].get("auto_batch")): one for one in map(results.read, tmp_path.glob("**/seed-0.json"))}
    assert found[False]["status"] == "failed" and found[True]["status"] == "ok"
    assert found[True]["cost"]["micro_batch"] == [2, 2]
    assert "| finetune (auto_batch)" in tables(tmp_path)
    path = next(path for path in tmp_path.glob("**/seed-0.json") if "auto_batch" in str(path))
    assert "micro_batch" in bench("show", path)[1]
