"""Every path that a GPU takes, on a pretend accelerator whose tensors do not mix with those of the CPU; and on CUDA."""

import gc
from functools import partial
from pathlib import Path
from unittest import mock

import pretend_device
import pytest
import torch
from heavy import fork_nursery
from mini import quick
from pretend_device import memory
from torch.utils import backend_registration
from torch.utils._pytree import tree_leaves

from bench import evaluation, registry, results
from bench.cli import doctor
from bench.runner.cell import run_cell
from bench.runner.plan import plan_cells
from bench.schema.request import Request
from bench.training.auto_batch import AutoBatch
from bench.wall.child import Learner

pytestmark = pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this PyTorch has no hook for back-ends in Python",
)

STREAM = """
version: 1
reader: synthetic
image_size: 32
source: tests
options: {train: 4, good: 2, anomalous: 2}
steps: [[gear], [wood]]
"""
LESS = {  # than `quick` leaves to do
    "ddad": {"adapt_epochs": 1, "start": 25},
    "ddad_s": {"adapt_epochs": 1, "start": 25},
    "replaycad": {"sampling_steps": 2, "replays": 2, "steps": 2},
    "amn_diffusion": {"steps": 1},
}
METHODS = registry.found_entries("method")
DETECTORS = registry.found_entries("detector")
ONE_BY_ONE = set()  # gradient-trained detectors whose batch is one image
FAST = {"finetune", "replay", "padim", "stfpm"}  # tried in the fast part of the suite too


def names(entries):
    return [pytest.param(name, marks=[] if name in FAST else pytest.mark.slow) for name in entries]


def planned(folder: Path, method: str, detector: str = "", device: str = "elsewhere", **asked):
    """A cell of two classes of four images, one epoch or as good as that."""
    detector = detector or registry.default_detector(METHODS[method], ())
    overrides: dict[str, dict] = {}
    for name, entry in (*METHODS.items(), *DETECTORS.items()):
        if name in (method, detector):
            once = {option: 1 if option == "epochs" else value for option, value in quick(entry).items()}
            overrides[name] = overrides.get(name, {}) | once | LESS.get(name, {})
    for name, more in asked.pop("options", {}).items():
        overrides[name] |= more
    (folder / "mini.yaml").write_text(STREAM)
    request = Request(
        (method,), (detector,), (str(folder / "mini.yaml"),), overrides=overrides, size="tiny", device=device,
        cache=folder / "cache", **asked,
    )  # fmt: skip
    return plan_cells(request)[0]


def ran(folder: Path, cell) -> dict:
    """The record of a cell that was killed after its first step and went on from there."""
    with mock.patch.multiple(evaluation, LATENCY_S=0, LATENCY_BATCHES=(1, 4)):
        run_cell(cell, folder, at_most=1)
        run_cell(cell, folder)
    return results.read(results.cell_path(folder, cell.spec))


def assert_ran_there(record: dict) -> None:
    cost = record["cost"]
    assert record["status"] == "ok", record["reason"]
    assert record["environment"]["device"] == "Pretend accelerator" and not record["environment"]["deterministic"]
    assert len(cost["device_peak_bytes"]) == len(cost["carried_bytes"]) == 2 and min(cost["device_peak_bytes"]) > 0
    assert cost["ms_per_image"]["1"] > 0 and cost["ms_per_image"]["4"] > 0


def held_by(learner: Learner) -> int:
    """Bytes on the device of what a step leaves: the detector with its buffers, the plugins' states, and the models
    that are the same for any number of steps."""
    model, methods = learner.strategy.model, learner.strategy.methods
    states = [model.state_dict(), *model.buffers(), *(one.state_dict() for one in methods)]
    leaves = [leaf.near.untyped_storage() for leaf in tree_leaves(states) if isinstance(leaf, pretend_device.Far)]
    fixed = sum(one.report().get("fixed_bytes", 0) for one in methods)
    return int(fixed) + sum({storage._cdata: len(storage) for storage in leaves}.values())


def method_there(folder: Path, method: str) -> tuple[dict, list[float], int]:
    """The record; per step what stays on the device beyond what the step leaves, as a share of that; bytes at the end.

    The first step is that of a process, the second that of the next, which goes on from the checkpoint.
    """
    beyond, train = [], Learner.train

    def watched(learner, given):
        found = train(learner, given)
        gc.collect()
        beyond.append(memory.now / held_by(learner) - 1)
        return found

    Learner.train = watched
    record = ran(folder, planned(folder, method, no_wall=True))
    gc.collect()
    return record, beyond, memory.now


@pytest.mark.parametrize("method", names(METHODS))
def test_every_method_runs_there_on_its_default_detector_and_leaves_nothing_behind(method, tmp_path):
    record, beyond, at_the_end = pretend_device.call(method_there, tmp_path, method)
    assert_ran_there(record)
    assert len(beyond) == 2 and max(beyond) < 0.01 and at_the_end == 0, (beyond, at_the_end)


def detector_there(folder: Path, detector: str, **asked) -> dict:
    """Behind the wall, with all that a detector can have: bfloat16, kept features, batches of which two images fit."""
    whole = AutoBatch.loss

    def tight(split, model, image):
        with mock.patch.object(type(model), "loss", _too_large(type(model).loss)):
            return whole(split, model, image)

    AutoBatch.loss = tight
    pixels = 64 if detector == "efficientad" else None  # the least that it takes
    cell = planned(folder, "finetune", detector, auto_batch=True, feature_cache=0.1, image_size=pixels, **asked)
    fork_nursery()
    return ran(folder, cell)


def _too_large(loss):
    def tried(model, image):
        if len(image) > 2:
            raise torch.OutOfMemoryError("elsewhere out of memory")
        return loss(model, image)

    return tried


@pytest.mark.parametrize("detector", names(DETECTORS))
def test_every_detector_runs_there_in_parts_of_a_batch_and_in_bfloat16(detector, tmp_path):
    traits = DETECTORS[detector].declared["TRAITS"]
    precision = "bfloat16" if "bfloat16" in traits else "float32"
    record = pretend_device.call(partial(detector_there, precision=precision), tmp_path, detector)
    assert_ran_there(record)
    split = [2, 2] if "gradient" in traits and detector not in ONE_BY_ONE else None
    assert record["cost"].get("micro_batch") == split
    assert record["wall"]["confined"]


def test_kept_features_and_stored_maps_work_there(tmp_path):
    record = pretend_device.call(partial(detector_there, save_maps=True), tmp_path, "padim")
    assert_ran_there(record)
    assert record["cost"]["feature_misses"] == [8, 12] and record["stored"]["maps"]


FAULT = '''"""A fault on purpose."""
import torch
from bench.api import Plugin, Setup, Strategy
from methods.finetune import Config

class Faulty(Plugin):
    mean = None

    def state_dict(self):
        return {"mean": self.mean}

    def load_state_dict(self, state):
        self.mean = state["mean"]

    def before_forward(self, strategy, **_):
        image = strategy.mbatch.image
        FAULT

def build(config: Config, setup: Setup) -> Strategy:
    return setup.strategy([Faulty()])
'''


def faulty_there(folder: Path, fault: str) -> str:
    """The reason that the cell of a method with a fault has failed for."""
    (folder / "faulty.py").write_text(FAULT.replace("FAULT", fault))
    plugins = (folder / "faulty.py",)
    return ran(folder, planned(folder, "faulty", "autoencoder", plugins=plugins, no_wall=True))["reason"]


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        pytest.param(
            "self.mean = image.mean().cpu()[None] if self.mean is None else self.mean + image.mean((0, 2, 3))",
            "expected all tensors on the same device, but found elsewhere:0 and cpu",
            id="a tensor left behind in the state",
        ),
        pytest.param("image.numpy()", "can't convert elsewhere:0 device type tensor to numpy", id="numpy"),
        pytest.param(
            "torch.rand(3, device=image.device, generator=torch.Generator())",
            "expected a 'elsewhere' device type for generator but found 'cpu'",
            id="generator",
        ),
    ],
)
def test_a_fault_on_purpose_is_caught_by_name(fault, told, tmp_path):
    reason = pretend_device.call(faulty_there, tmp_path, fault)
    assert told in reason and "faulty.py" in reason and "before_forward" in reason, reason


def short_of_memory(folder: Path, size: float, **asked) -> dict:
    """A cell of batches of 32 images on a device with `size` times the memory that it takes."""
    large = {"options": {"autoencoder": {"batch_size": 32}}, "image_size": 64}
    fork_nursery()
    free = ran(folder, planned(folder, "finetune", "autoencoder", **large))
    memory.size = int(size * max(free["cost"]["device_peak_bytes"]))
    fork_nursery()
    return ran(folder, planned(folder, "finetune", "autoencoder", **large, **asked, seeds=(1,)))


def test_a_full_memory_fails_with_what_to_change(tmp_path):
    record = pretend_device.call(short_of_memory, tmp_path, 0.7)
    assert record["status"] == "failed"
    assert "The memory of Pretend accelerator is too small for this: try --auto-batch" in record["reason"]


def test_a_full_memory_splits_the_batch_where_that_is_asked_for(tmp_path):
    record = pretend_device.call(partial(short_of_memory, auto_batch=True), tmp_path, 0.7)
    assert_ran_there(record)
    assert all(0 < images < 4 for images in record["cost"]["micro_batch"])


def test_the_doctor_names_it_and_its_memory(tmp_path):
    told = dict(map(reversed, pretend_device.call(doctor.examine, tmp_path, tmp_path, None)))
    line = next(line for line in told if line.startswith("--device auto is elsewhere, Pretend accelerator, "))
    assert told[line] == doctor.OK and line.endswith("of its memory free.")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("method", METHODS)
def test_every_method_runs_on_cuda(method, tmp_path):
    record = ran(tmp_path, planned(tmp_path, method, device="cuda"))
    assert record["status"] == "ok", record["reason"]
    assert min(record["cost"]["device_peak_bytes"]) > 0 and record["wall"]["confined"]
