"""Wall seconds of 8 one-thread cells on a Ray cluster of this machine: 1 CPU for them against 2, and the ratio.

    python tests/benchmarks/backends.py [--cells 8] [--epochs 40]

Each cell is `finetune+autoencoder` on two rendered classes. Both clusters are started anew, so both pay once per worker
for the imports; `cells` is the time from the end of the first cell's imports on, `all` counts everything. The images
are decoded before. The ratio needs a machine with two cores that nothing else uses: its load is printed too.
"""

import argparse
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import bench.backends.preload  # noqa: F401 - imports all third-party packages, their warnings silenced
from bench import backends, cli, results, session
from bench.cli import running

MANIFEST = """
version: 1
reader: synthetic
image_size: 64
source: a benchmark
options: {train: 40, good: 10, anomalous: 10}
steps: [[gear], [wood]]
"""


def cells(folder: Path, count: int, epochs: int):
    """The cells, one per seed, what was asked for and how."""
    (folder / "line.yaml").write_text(MANIFEST)
    what = ["--methods", "finetune", "--detectors", "autoencoder", "--scenario", str(folder / "line.yaml")]
    how = ["--set", f"autoencoder.epochs={epochs}", "--cache", str(folder / "cache"), "--backend", "ray"]
    seeds = ",".join(map(str, range(count)))
    options = cli.parser().parse_args(["run", *what, *how, "--seeds", seeds])
    request, execution = running.asked(options)
    return session._cells_of(request, execution), request, execution


def seconds(cpus: int, planned, request, execution, folder: Path) -> tuple[float, float]:
    """(from the first start of a cell on, in all) on a cluster with so many CPUs."""
    from ray.cluster_utils import Cluster

    results.check_disk(folder / f"{cpus}")
    machine = {"num_cpus": cpus, "object_store_memory": 100 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=machine)
    execution = replace(execution, results=folder / f"{cpus}", address=cluster.address)
    moments, ended = [], []

    def hear(cell, event):
        moments.append(time.perf_counter())
        ended.extend([event["done"]] if "done" in event else [])

    begun = time.perf_counter()
    backends.find_backend(request, execution).run(planned, execution, hear)
    cluster.shutdown()
    assert ended == ["ok"] * len(planned), ended
    return moments[-1] - moments[0], moments[-1] - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=40)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        planned, *how = cells(Path(folder), asked.cells, asked.epochs)
        one, two = (seconds(cpus, planned, *how, Path(folder)) for cpus in (1, 2))
    for what, before, after in zip(("cells", "all"), one, two, strict=True):
        print(f"{what}: 1 CPU {before:.1f} s, 2 CPUs {after:.1f} s, ratio {before / after:.2f}")
    print(f"load {os.getloadavg()}, {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
