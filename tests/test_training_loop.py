"""Training waits for the device nowhere within a batch, and batches lie where a GPU can fetch them meanwhile."""

import sys

import pytest
import torch
from given import experiences
from mini import build, train

from bench import registry
from bench.api import Images, Plugin, normal_images

pytestmark = pytest.mark.slow

# What brings a number of a tensor to Python, and so waits for a GPU.
WAITING = ("item", "tolist", "numpy", "cpu", "__bool__", "__int__", "__float__", "__index__")
ASK = {  # and why: none of it is the bench's own
    "amn_diffusion": "draws where its anomalies lie from a tensor that never was on a GPU",
    "cutpaste_vit": "draws where its patches lie on the CPU",
    "dinomaly": "anomalib's StableAdamW compares the size of each step in Python",
    "draem": "anomalib's noise is drawn on the CPU",
    "efficientad": "anomalib picks the change of an image by a draw on the CPU",
    "inpaint": "draws the size of cells on the CPU",
    "supersimplenet": "anomalib's noise is drawn on the CPU",
}
LEARNING = [
    name for name, entry in registry.found_entries("detector").items() if "gradient" in entry.declared["TRAITS"]
]


class Within(Plugin):
    """Knows whether a batch is under way."""

    under_way = False

    def before_training_iteration(self, strategy, **_):
        self.under_way = True

    def after_training_iteration(self, strategy, **_):
        self.under_way = False


@pytest.fixture
def waits(monkeypatch):
    """Count the calls of `WAITING` within batches, but for an optimizer's step counters, which lie on the CPU."""
    within, found = Within(), []

    def counted(name: str):
        original = getattr(torch.Tensor, name)

        def call(tensor, *args, **kwargs):
            caller = sys._getframe(1)
            if within.under_way and "torch/optim/" not in caller.f_code.co_filename.replace("\\", "/"):
                found.append(f"{name} in {caller.f_code.co_filename}:{caller.f_lineno}")
            return original(tensor, *args, **kwargs)

        return call

    for name in WAITING:
        monkeypatch.setattr(torch.Tensor, name, counted(name))
    return within, found


def trained(strategy, within: Within, stream, arrays, **options) -> None:
    strategy.plugins.append(within)
    train(strategy, stream, arrays, **options)


@pytest.mark.parametrize("name", [name for name in LEARNING if name not in ASK])
def test_no_batch_waits_in_a_detector(name, waits, stream, arrays):
    trained(build("finetune", name), *waits[:1], stream, arrays, last=1)
    assert not waits[1]


@pytest.mark.parametrize("method", ["replay", "ewc", "si", "mas", "lwf", "der", "agem", "latent_replay"])
def test_no_batch_waits_in_a_method(method, waits, stream, arrays):
    trained(build(method, "autoencoder"), *waits[:1], stream, arrays, method=method, last=2)
    assert not waits[1]


def test_the_count_sees_what_waits(waits):
    waits[0].under_way = True
    if torch.ones(()) > 0:
        torch.ones(()).item()
    assert [found.partition(" ")[0] for found in waits[1]] == ["__bool__", "item"]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_batches_are_pinned_for_a_gpu_only(device):
    images = Images(normal_images(torch.zeros(4, 3, 8, 8)), 2, torch.device(device))
    assert images.loader.pin_memory == (device == "cuda")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("remembered", [False, True])
def test_training_loaders_pin_for_a_gpu_only(device, remembered, stream, arrays):
    strategy = build("finetune", "autoencoder")
    strategy.make_optimizer()
    strategy.device, strategy.experience = torch.device(device), experiences(stream, arrays).train_stream[0]
    strategy.adapted_dataset = strategy.experience.dataset
    strategy.remembered = strategy.adapted_dataset if remembered else None
    strategy.make_train_dataloader()
    loader = strategy.dataloader
    settings = loader.loader_kwargs if remembered else vars(loader)
    assert settings["pin_memory"] == (device == "cuda")
