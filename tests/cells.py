"""Cells made by hand, for the tests of everything that reads result files."""

import copy

import numpy as np

from bench import __version__, registry
from bench.results import key_of
from bench.results.age import digest_here
from bench.schema.cell import SCHEMA
from bench.schema.metric import METRICS, summarised
from bench.schema.record import Record

CLASSES = ("bottle", "cable", "capsule")


def cell(
    final=0.9, peak=None, status="ok", reason="", capabilities=(), device="cpu", metrics=None, unmasked=(), **spec
) -> Record:
    """A valid cell of a 1x3 stream: every class scores `peak` when just learned and `final` after the last step.

    `metrics` overrides `final` per metric, `unmasked` names classes without masks; everything else sets a key of the
    spec.
    """
    spec = _spec(**spec)
    steps, width = len(spec["steps"]), len(spec["classes"])
    done = {"ok": steps, "partial": steps - 1}.get(status, 0)
    finals = {metric: (metrics or {}).get(metric, final) for metric in summarised()}
    made = {
        "schema": SCHEMA,
        "key": key_of(spec),
        "spec": spec,
        "capabilities": list(capabilities),
        "code": {kind: digest_here(kind, spec[kind]) or "" for kind in registry.FOLDERS} | {"bench": __version__},
        "status": status,
        "reason": reason,
        "matrices": {metric: _matrix(steps, width, done, value, peak) for metric, value in finals.items()},
        "pooled": {"image_auroc": [finals["image_auroc"] - 0.1] * done, "pixel_auroc": [0.8] * done},
        "threshold": _threshold(done),
        "routing_accuracy": [1.0, 0.9, 0.8][:done] if spec["method"] == "cl_patchcore" else None,
        "cost": _cost(done, device),
        "environment": _environment(device),
    }
    if unmasked:
        made["unmasked"] = list(unmasked)
        columns = [spec["classes"].index(name) for name in unmasked]
        for metric in (name for name in made["matrices"] if METRICS[name].needs_masks):
            R = np.array(made["matrices"][metric])
            R[:, columns] = np.nan
            made["matrices"][metric] = R.tolist()
    if "holdout" in spec:
        made["matrices"]["class_threshold_shift"] = _matrix(steps, width, done, 2.0, 0.0)
    return copy.deepcopy(made)


def _matrix(steps, width, done, final, peak):
    R = np.full((steps, width), np.nan)
    for t in range(done):
        R[t, : t + 1] = final
        R[t, t] = final if peak is None or t == steps - 1 else peak
    return R.tolist()


def _threshold(done):
    constant = {"f1": 0.7, "precision": 0.6, "recall": 0.84, "false_alarm": 0.05}
    return {"value": [1.0 + t for t in range(done)]} | {name: [value] * done for name, value in constant.items()}


def _spec(**given):
    spec = {
        "scenario": "toy/1x3",
        "scenario_version": 1,
        "fingerprint": "0123456789abcdef",
        "order": "published",
        "classes": list(CLASSES),
        "steps": [[name] for name in CLASSES],
        "image_size": 64,
        "method": "replay",
        "method_config": {"per_class": 10},
        "detector": "patchcore",
        "detector_config": {"coreset": 0.1},
        "backbone": "test_resnet",
        "weights": {"kind": "procedural", "source": "features.safetensors", "sha256": "ab" * 32},
        "size": "tiny",
        "seed": 0,
        "backbone_arguments": {},
        "metric_version": 1,
        "variant": "",
    }
    assert not given.keys() - spec.keys() - {"holdout"}
    return spec | given


def _cost(done, device):
    gpu = {"allocated_bytes": 2_000_000, "reserved_bytes": 3_000_000, "utilisation": 0.5, "energy_j": None}
    return {
        "train_s": [2.0] * done,
        "train_cpu_s": [1.5] * done,
        "eval_s": [0.5] * done,
        "eval_cpu_s": [0.4] * done,
        "extra_s": [0.1] * done,
        "others_share": [0.01] * done,
        "epochs": [3] * done,
        "train_images": [100.0] * done,
        "optimizer_steps": [20.0] * done,
        "eval_images": [30.0] * done,
        "carried_bytes": [1e6 * (t + 1) for t in range(done)],
        "peak_rss_bytes": 900_000_000,
        "parameters": 1_234_567,
        "trainable_parameters": 0,
        "detector_bytes": 4_938_268,
        "ms_per_image": {"1": 8.0, "32": 2.0},
        "gpu": None if device == "cpu" else gpu,
    }


def _environment(device):
    return {
        "device": device,
        "cpu": "Some CPU",
        "cores": 2,
        "threads": 1,
        "python": "3.11.9",
        "platform": "Linux",
        "torch": "2.15.0",
        "versions": {"anomalib": "2.7.0"},
        "bench": "0.1.0",
        "commit": "53e2cb2",
        "deterministic": True,
        "started": "2026-01-01T00:00:00Z",
        "finished": "2026-01-01T00:01:00Z",
    }
