"""Every path that a GPU takes, on a pretend accelerator whose tensors refuse to mix with the CPU's.

The commands run in processes of their own: PyTorch starts the device in those that have tests/pretend_device on their
path, as it starts any back-end that is not built in (torch.backends), the steps' processes behind the wall included.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mini import quick
from torch.utils import backend_registration

from bench import registry

pytestmark = pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this PyTorch has no hook for back-ends in Python",
)

TESTS = Path(__file__).parent
STREAM = """
version: 1
reader: synthetic
image_size: 32
source: tests
options: {train: 4, good: 2, anomalous: 2}
steps: [[gear], [wood]]
"""
SLOW = {"amn_diffusion", "ddad", "ddad_s", "dinomaly", "efficientad", "inpaint"}  # detectors; minutes, all together
METHODS = {e.name: e.declared["DEFAULT_DETECTOR"] for e in registry.found("method").values()}
DETECTORS = list(registry.found("detector"))
SLOW_METHODS = {"replaycad"} | {name for name, detector in METHODS.items() if detector in SLOW}

pytestmark = pytest.mark.skipif(
    "BENCH_PRETEND" not in os.environ,
    reason="takes minutes, and the pretend device cannot run decoflow and ucad yet: set BENCH_PRETEND=1",
)


def bench(folder: Path, *arguments: str, **environment: str) -> str:
    """Run a command with the pretend device at hand; returns what it said."""
    (folder / "mini.yaml").write_text(STREAM)
    path = os.pathsep.join([str(TESTS.parent), str(TESTS / "pretend_device")])
    done = subprocess.run(
        [sys.executable, "-m", "bench", *arguments], cwd=folder, capture_output=True, text=True, timeout=1500,
        env=os.environ | {"PYTHONPATH": path} | environment,
    )  # fmt: skip
    return done.stdout + done.stderr


def run(folder: Path, methods, detectors=(), *arguments: str, **environment: str) -> str:
    """One epoch or as good as that, on two classes of four images."""
    names = {*methods, *detectors, *(METHODS.get(name) for name in methods if not detectors)} - {None}
    options = [
        f"{entry.name}.{option}={1 if option == 'epochs' else value}"
        for kind in ("method", "detector")
        for entry in registry.found(kind).values()
        if entry.name in names
        for option, value in quick(entry).items()
    ]
    chosen = ["--methods", ",".join(methods), *(["--detectors", ",".join(detectors)] if detectors else [])]
    sets = [part for option in options for part in ("--set", option)]
    return bench(
        folder, "run", "--scenario", "mini.yaml", "--device", "elsewhere", "--jobs", "2", *chosen, *sets, *arguments,
        **environment,
    )  # fmt: skip


def cells(folder: Path) -> dict[str, dict]:
    """The cells that a run left, by the name of their pair."""
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("results/custom/**/seed-0.json"))]
    return {f"{cell['spec']['method']}+{cell['spec']['detector']}": cell for cell in found}


def assert_ran_there(folder: Path, pairs: set[str], said: str) -> None:
    found = cells(folder)
    broken = {name: cell["reason"][-1500:] for name, cell in found.items() if cell["status"] == "failed"}
    assert not broken and pairs <= set(found), "\n".join([*broken.values(), *(pairs - set(found)), said[-1500:]])
    for name in pairs:
        cell = found[name]
        assert cell["environment"]["device"] == "Pretend accelerator" and not cell["environment"]["deterministic"]
        assert all(peak > 0 for peak in cell["cost"]["device_peak_bytes"]), name
        assert len(cell["cost"]["device_peak_bytes"]) == 2 and cell["cost"]["ms_per_image"]["32"] > 0, name


@pytest.mark.parametrize(
    "methods", [sorted(set(METHODS) - SLOW_METHODS), pytest.param(sorted(SLOW_METHODS), marks=pytest.mark.slow)]
)
def test_every_method_runs_there_on_its_default_detector(methods, tmp_path):
    said = run(tmp_path, methods)
    assert_ran_there(tmp_path, {f"{name}+{METHODS[name]}" for name in methods}, said)


@pytest.mark.parametrize(
    "detectors", [sorted(set(DETECTORS) - SLOW), pytest.param(sorted(SLOW), marks=pytest.mark.slow)]
)
def test_every_detector_runs_there(detectors, tmp_path):
    said = run(tmp_path, ["finetune"], detectors)
    assert_ran_there(tmp_path, {f"finetune+{name}" for name in detectors}, said)


def test_bfloat16_kept_features_and_stored_maps_work_there(tmp_path):
    said = run(tmp_path, ["replay"], ["stfpm"], "--precision", "bfloat16", "--feature-cache", "1", "--save-maps")
    assert_ran_there(tmp_path, {"replay+stfpm"}, said)
    assert sum(cells(tmp_path)["replay+stfpm"]["cost"]["feature_misses"]) > 0


FAULT = '''"""A fault on purpose."""
import torch
from bench.api import Plugin
from methods.finetune import Config, Setup, Strategy

class Faulty(Plugin):
    mean = None
    def state_dict(self): return {"mean": self.mean}
    def load_state_dict(self, state): self.mean = state["mean"]
    def before_forward(self, strategy, **_):
        image = strategy.mbatch.image
        FAULT

def build(config: Config, setup: Setup) -> Strategy:
    return Strategy(detector=setup.detector, plugins=[Faulty()], device=setup.device)
'''
FAULTS = {
    "left_behind": (
        "self.mean = image.mean((0, 2, 3)).cpu() if self.mean is None else self.mean + image.mean((0, 2, 3))",
        "expected all tensors on the same device, but found elsewhere:0 and cpu",
    ),
    "numpy_there": ("image.numpy()", "can't convert elsewhere:0 device type tensor to numpy"),
    "generator_here": (
        "torch.rand(3, device=image.device, generator=torch.Generator())",
        "expected a 'elsewhere' device type for generator but found 'cpu'",
    ),
}


def test_faults_on_purpose_are_caught_by_name(tmp_path):
    for name, (fault, _) in FAULTS.items():
        (tmp_path / f"{name}.py").write_text(FAULT.replace("FAULT", fault))
    plugins = [part for name in FAULTS for part in ("--plugin", f"{name}.py")]
    said = run(tmp_path, list(FAULTS), ["autoencoder"], *plugins)
    found = cells(tmp_path)
    for name, (_, told) in FAULTS.items():
        assert f"{name}+autoencoder" in found, said
        reason = found[f"{name}+autoencoder"]["reason"]
        assert told in reason and f"{name}.py" in reason and "before_forward" in reason, reason


def test_a_full_memory_splits_the_batch_or_fails_with_what_to_change(tmp_path):
    free, full, split = (tmp_path / name for name in ("free", "full", "split"))
    for folder in (free, full, split):
        folder.mkdir()
    large = ("--set", "autoencoder.batch_size=32", "--image-size", "64")
    run(free, ["finetune"], ["autoencoder"], *large)
    peak = max(cells(free)["finetune+autoencoder"]["cost"]["device_peak_bytes"])
    memory = {"PRETEND_MEMORY": str(peak // 2)}
    run(full, ["finetune"], ["autoencoder"], *large, **memory)
    failed = cells(full)["finetune+autoencoder"]
    assert (
        failed["status"] == "failed"
        and "Pretend accelerator is too small for this: try --auto-batch" in failed["reason"]
    )
    said = run(split, ["finetune"], ["autoencoder"], "--auto-batch", *large, **memory)
    cell = cells(split)["finetune+autoencoder"]
    assert cell["status"] == "ok", cell["reason"] + said
    assert all(0 < images < 4 for images in cell["cost"]["micro_batch"])
