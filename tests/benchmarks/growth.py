"""What a stream costs as it grows: seconds and memory per step at 10, 100 and 1,000 classes of small images.

    python tests/benchmarks/growth.py [--classes 10,100,1000] [--out results/benchmarks/growth.json]

PaDiM at its tiny size, one class per step, 16 px, eight images a class, evaluated after the last step. Each stream runs
in a process of its own. The exponent p of each cost is that of a power law through the totals, cost ~ classes^p: 1 is
what linear work costs; evaluation after the last step is linear too, because it shows each class once.
"""

import argparse
import json
import multiprocessing
import os
import resource

os.environ.setdefault("OMP_NUM_THREADS", "1")

import tempfile
import time
from pathlib import Path

import numpy as np
from tabulate import tabulate

PLUGIN = Path(__file__).with_name("many.py")
PARTS = ("load_s", "train_s", "eval_s", "save_s", "finish_s", "read_s", "show_s", "cell_mb", "growth_mb", "peak_mb")


def manifest(folder: Path, classes: int) -> Path:
    path = folder / f"1x{classes}.yaml"
    steps = [[f"c{k}"] for k in range(classes)]
    path.write_text(
        "version: 1\nreader: many\nimage_size: 16\nsource: tests/benchmarks/many.py\noptions: {train: 4, test: 4}\n"
        f"steps: {json.dumps(steps)}\n"
    )
    return path


def measure(classes: int, every: int, detector: str) -> dict[str, float]:
    """Costs of one stream."""
    from bench import results
    from bench.render import show
    from bench.runner.cell import CellRun
    from bench.runner.plan import plan_cells
    from bench.schema.request import Request
    from bench.training.seeding import make_deterministic
    from bench.wall import nursery as nurseries

    make_deterministic(1)
    with tempfile.TemporaryDirectory() as name, nurseries.opened() as nursery:
        folder, clock = Path(name), time.perf_counter
        request = Request(
            ("finetune",), (detector,), (str(manifest(folder, classes)),), size="tiny", plugins=(PLUGIN,),
            cache=folder / "cache", eval_every=every, device="cpu",
        )  # fmt: skip
        start = clock()
        under_way = CellRun(plan_cells(request)[0], folder / "results", lambda event: None, nursery, 1)
        loaded, per_step, before = clock() - start, [], _peak()
        for t in range(classes):
            start = clock()
            under_way.step(t)
            per_step.append(clock() - start)
        after, start = _peak(), clock()
        under_way.finish()
        finished, start = clock() - start, clock()
        results.read(under_way.path)
        read, start = clock() - start, clock()
        show.show(str(under_way.path), folder / "results")
        shown, costs = clock() - start, under_way.log.cost
        trained, evaluated = sum(costs["train_s"]), sum(costs["eval_s"])
        values = (
            loaded, trained, evaluated, sum(per_step) - trained - evaluated, finished, read, shown,
            under_way.path.stat().st_size / 1e6, (after - before) / 1e6, _peak() / 1e6,
        )  # fmt: skip
        third = max(1, classes // 3)
        late = float(np.median(costs["train_s"][-third:]) / np.median(costs["train_s"][1 : third + 1]))
        return dict(zip(PARTS, values, strict=True)) | {"last_third_over_first": late}


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _send(connection, *arguments) -> None:
    connection.send(measure(*arguments))


def apart(*arguments) -> dict[str, float]:
    """`measure` in a process of its own, for the sake of its peak memory."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(False)
    process = context.Process(target=_send, args=(sender, *arguments))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    finally:
        process.join()


def exponents(found: dict[int, dict[str, float]]) -> dict[str, float]:
    """Slope of log cost over log classes; between the two longest streams, where fixed costs weigh least."""
    short, long = sorted(found)[-2:]
    ratio = np.log(long / short)
    return {name: float(np.log(max(found[long][name], 1e-9) / max(found[short][name], 1e-9)) / ratio) for name in PARTS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", default="10,100,1000")
    parser.add_argument("--eval-every", type=int, default=0, help="0: after the last step only")
    parser.add_argument("--detector", default="padim")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks/growth.json"))
    options = parser.parse_args()
    found = {}
    for classes in map(int, options.classes.split(",")):
        found[classes] = apart(classes, options.eval_every, options.detector)
        print(f"{classes} classes: " + ", ".join(f"{k} {v:.3g}" for k, v in found[classes].items()), flush=True)
    fitted = exponents(found)
    lines = [[name, *(of[name] for of in found.values()), fitted[name]] for name in PARTS]
    print(tabulate(lines, ["", *map(str, found), "exponent"], tablefmt="github", floatfmt=".3g"))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    told = {"eval_every": options.eval_every, "detector": options.detector, "classes": found, "exponents": fitted}
    options.out.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
