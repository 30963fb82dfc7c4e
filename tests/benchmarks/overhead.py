"""What the harness costs: training beside a bare PyTorch loop; with `--wall` a cell beside the same without a wall.

    python tests/benchmarks/overhead.py [--detector stfpm] [--sizes 64,256] [--epochs 3] [--repeats 5] [--wall]

Both run in turns, from the same seed, in one process (and, with the wall, in those that it starts); the least of the
repeats counts for each. Training: the images are those of a rendered class, decoded and in memory for both, and the
bare loop makes a batch as the harness does: a loader shuffles single images and stacks them. Wall: a cell of six steps,
trained and tested after each (fine-tuning on synthetic/1x6), once it is planned: in seconds of the clock and of the
processor, which other work on the machine disturbs less. The latter are those of this process, of the one that forks
the steps (which answers the kernel for them) and of all steps, forks and ends included. And what a step takes until its
process is ready to be given images, and until it is gone.
"""

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import dataclasses
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import heavy
import psutil
import torch
from given import experiences
from torch.utils.data import DataLoader, Dataset

from bench import data, registry, results
from bench.api import Setup
from bench.runner import run_cell
from bench.runner.plan import plan_cells
from bench.schema.request import PROCEDURAL, TINY_BACKBONE, BackboneSpec, Cell, Request, Weights
from bench.schema.stream import Stream
from bench.training.experiences import as_float
from bench.training.seeding import make_deterministic, seed_everything
from bench.wall import nursery
from bench.wall.parent import Used, confined, readable, task_of

BACKBONE = BackboneSpec(TINY_BACKBONE, Weights("procedural", file=str(PROCEDURAL)))


class Plain(Dataset):
    """Images (N, S, S, 3) uint8 as floats in 0..1."""

    def __init__(self, images):
        self.images = torch.from_numpy(images)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> torch.Tensor:
        return as_float(self.images[index])


def detector(name: str, size: int, epochs: int):
    module = registry.find_entry("detector", name).load()
    seed_everything(0)
    config = dataclasses.replace(module.Config.tiny(), epochs=epochs)
    return module.build(config, Setup(size, 0, backbone=BACKBONE))


def harness(name: str, size: int, epochs: int, stream: Stream, arrays) -> tuple[float, float]:
    """(Seconds, sum of all weights afterwards) of one step through the strategy."""
    made = experiences(stream, arrays)
    strategy = Setup(size, 0, detector=detector(name, size, epochs)).strategy([])
    seed_everything(1)
    start = time.perf_counter()
    strategy.train(made.train_stream[0], eval_streams=[])
    return time.perf_counter() - start, weight(strategy.model)


def bare(name: str, size: int, epochs: int, stream: Stream, arrays) -> tuple[float, float]:
    """The same in the few lines that it takes in PyTorch."""
    model = detector(name, size, epochs)
    seed_everything(1)
    start = time.perf_counter()
    loader = DataLoader(Plain(arrays.images[arrays.train]), model.batch_size, shuffle=True)
    optimizer = model.optimizer()
    model.train()
    for _ in range(epochs):
        for image in loader:
            optimizer.zero_grad()
            model.loss(image).backward()
            optimizer.step()
    return time.perf_counter() - start, weight(model)


def beside_bare(options, size: int) -> None:
    """Print the ratio of a step's training through the strategy to the same in a bare loop."""
    wanted = {"train": 48, "good": 1, "anomalous": 1, "seed": 101}
    stream = Stream("overhead", 1, "synthetic", (("gear",),), size, wanted, "this file")
    arrays, _ = data.load_arrays(stream, None, size, options.cache)
    found = {harness: [], bare: []}
    for _ in range(options.repeats + 1):
        for way, runs in found.items():
            runs.append(way(options.detector, size, options.epochs or 3, stream, arrays))
    ours, theirs = (min(seconds for seconds, _ in runs[1:]) for runs in found.values())
    apart = abs(found[harness][0][1] - found[bare][0][1])
    print(
        f"{options.detector}, {size} px: harness {ours:.3f} s, bare loop {theirs:.3f} s, ratio {ours / theirs:.3f} "
        f"(goal: 1.05); sums of weights differ by {apart:.1e}"
    )


def planned(name: str, size: int, options, *, no_wall: bool) -> Cell:
    """The cell that is run."""
    asked = Request(
        ("finetune",), (name,), ("synthetic/1x6",), size="tiny", image_size=size, cache=options.cache, no_wall=no_wall,
        device="cpu",
        overrides={name: {"epochs": options.epochs}} if options.epochs else {},
    )  # fmt: skip
    (one,) = plan_cells(asked)
    return one


def finished(one: Cell) -> float:
    """Run a cell to its end; returns its mean image AUROC after the last step, which is the same either way."""
    with tempfile.TemporaryDirectory() as folder:
        run_cell(one, Path(folder))
        record = results.read(results.cell_path(Path(folder), one.spec))
    if record["status"] != "ok" or record["wall"]["confined"] == one.request.no_wall:
        raise SystemExit(
            f"{one.name}: {record['status']}, {'' if record.status != 'ok' else record['wall']}: {record['reason']}"
        )
    return sum(record["matrices"]["image_auroc"][-1]) / len(one.spec["classes"])


def begun(one: Cell) -> tuple[float, float, float]:
    """Seconds until the process of a first step is ready to be given images, its processor's so far, and until it is
    gone."""
    with nursery.opened() as forks:
        start = time.perf_counter()
        with confined(forks, task_of(one, 0), None, Used(), weights=readable(one)) as step:
            ready, spent = time.perf_counter(), step.cpu_seconds()
        return ready - start, spent, time.perf_counter() - ready


def timed(work: Callable[[], float], forks: int) -> tuple[float, float, float]:
    """Seconds of the clock, of the processor (this process, and that which forks the steps), and what it returned."""
    start, spent = time.perf_counter(), processor(forks)
    value = work()
    return time.perf_counter() - start, processor(forks) - spent, value


def processor(forks: int) -> float:
    """Seconds of this process, of `forks`, and of what that has forked and waited for."""
    return time.process_time() + sum(psutil.Process(forks).cpu_times()[:4])


def beside_no_wall(options, size: int) -> None:
    """Print the ratio of a cell's time with the wall to that without."""
    forks, runs = heavy.ready(), {False: [], True: []}
    cells = {no_wall: planned(options.detector, size, options, no_wall=no_wall) for no_wall in runs}
    for _ in range(options.repeats):
        for no_wall, found in runs.items():
            found.append(timed(lambda way=no_wall: finished(cells[way]), forks))
    (clock, spent, _), (bare_clock, bare_spent, _) = (
        [min(column) for column in zip(*of, strict=True)] for of in runs.values()
    )
    ready, begin, gone = (median(column) for column in zip(*(begun(cells[False]) for _ in range(10)), strict=True))
    pairs = [walled / plain for (_, walled, _), (_, plain, _) in zip(*runs.values(), strict=True)]
    same = len({value for found in runs.values() for *_, value in found}) == 1
    print(
        f"{options.detector}, {size} px: with the wall {clock:.2f} s ({spent:.2f} s of processor), without "
        f"{bare_clock:.2f} s ({bare_spent:.2f} s), ratio {clock / bare_clock:.3f} ({spent / bare_spent:.3f}, median "
        f"of pairs {median(pairs):.3f}); a step begins in {ready:.3f} s ({begin:.3f} s) and ends in "
        f"{gone:.3f} s (medians); {'same' if same else 'OTHER'} scores",
        flush=True,
    )


def weight(model: torch.nn.Module) -> float:
    return sum(p.detach().double().sum().item() for p in model.parameters())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detector", default="stfpm")
    parser.add_argument("--sizes", default="64,256", help="px")
    parser.add_argument("--epochs", type=int, help="default: 3; with --wall, what a cell of the size `tiny` has")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    parser.add_argument("--wall", action="store_true", help="a cell with the wall beside one without")
    options = parser.parse_args()
    make_deterministic(1)
    for size in map(int, options.sizes.split(",")):
        (beside_no_wall if options.wall else beside_bare)(options, size)


if __name__ == "__main__":
    main()
