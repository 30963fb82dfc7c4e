"""Seconds and peak memory of `bench leaderboard` over many cells, in a process of its own as a user would run it.

    python tests/benchmarks/bench_leaderboard.py [--cells 10000] [--classes 10]

The cells are made from a seed: methods x detectors x streams x seeds, one class per step, every metric.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from bench import results
from bench.schema.metric import summarised

ROOT = Path(__file__).parents[2]
SEEDS, METHODS, DETECTORS = 5, 20, 10


def cell(index: int, classes: int) -> dict:
    """A finished cell; all of its numbers come from its index."""
    rng = np.random.default_rng(index)
    rest, seed = divmod(index, SEEDS)
    rest, method = divmod(rest, METHODS)
    stream, detector = divmod(rest, DETECTORS)
    names = [f"class{k}" for k in range(classes)]
    spec = {
        "scenario": f"made/1x{classes}-{stream}", "scenario_version": 1, "fingerprint": f"{stream:064x}",
        "order": "published", "classes": names, "steps": [[name] for name in names], "image_size": 64,
        "method": f"method{method}", "method_config": {"memory": 10}, "detector": f"detector{detector}",
        "detector_config": {"lr": 1e-3, "epochs": 5}, "backbone": "test_resnet", "backbone_arguments": {},
        "weights": {"kind": "procedural", "source": "features.safetensors", "sha256": "ab" * 32}, "size": "tiny",
        "seed": seed, "metric_version": 1, "variant": "",
    }  # fmt: skip
    made = results.blank(spec, (), "ok", "")
    seen = np.tri(classes, dtype=bool)
    made["matrices"] = {name: np.where(seen, rng.uniform(0.4, 1, seen.shape), np.nan) for name in summarised()}
    made["pooled"] = {name: rng.uniform(0.4, 1, classes) for name in ("image_auroc", "pixel_auroc")}
    made["threshold"] = {name: rng.uniform(0.1, 1, classes) for name in made["threshold"]}
    lists = {name: rng.uniform(1, 50, classes) for name, value in made["cost"].items() if value == []}
    numbers = {"peak_rss_bytes": 9e8, "parameters": 1e6, "trainable_parameters": 1e5, "detector_bytes": 4e6}
    made["cost"] |= lists | numbers | {"ms_per_image": {"1": 8.0, "32": 2.0}}
    made["environment"] = {"device": "cpu", "torch": "2"}
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--classes", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name, "results")
        for index in range(options.cells):
            results.write_cell(root, cell(index, options.classes))
        megabytes = sum(path.stat().st_size for path in root.rglob("seed-*.json")) / 1e6
        command = [sys.executable, "-m", "bench", "leaderboard", "--results", str(root)]
        start = time.perf_counter()
        subprocess.run(command, check=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3
    print(f"{options.cells:,} cells of {options.classes} classes, {megabytes:.0f} MB of files:")
    print(f"{seconds:.1f} s (goal: 10), peak {peak:,.0f} MB (goal: 1,000)")


if __name__ == "__main__":
    main()
