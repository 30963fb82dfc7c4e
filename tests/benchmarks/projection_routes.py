"""Seconds and peak memory of the two routes to a layer's span: the Gram matrix, and an SVD after every image.

    python tests/benchmarks/projection_routes.py [--images 100] [--timed 100] [--channels 256] [--energy 0.999]

The layer is a 3 x 3 convolution of `channels` maps (2,304 inputs at 256, side² columns per image: Stable Diffusion's
latents at 256 px), fed with mixtures of few smooth fields, rectified, with noise. Each route runs in a process of its
own, one after the other, on one thread. Seconds are the processor's, so that other work does not count; on a GPU they
are the wall clock's. With `--timed` below `--images` the SVD route stops after so many images, and its time for all is
scaled up. `held` is the share of the energy of all images' columns inside the span.
"""

import argparse
import multiprocessing
import os
import resource
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import Tensor
from torch.nn import functional as F

from methods.gradient_projection.columns import Recording
from methods.gradient_projection.routes import ROUTES


def maps(index: int, options) -> Tensor:
    """One image's input (1, channels, side, side)."""
    generator = torch.Generator().manual_seed(index)
    fields = torch.randn(1, options.channels // 4, options.side // 4, options.side // 4, generator=generator)
    fields = F.interpolate(fields, (options.side, options.side), mode="bicubic")
    mixing = torch.randn(options.channels, options.channels // 4, 1, 1, generator=torch.Generator().manual_seed(-1))
    made = F.conv2d(fields, mixing).relu()
    return (made + 0.01 * torch.randn(made.shape, generator=generator)).to(options.device)


@torch.no_grad()
def measure(name: str, count: int, options, connection) -> None:
    torch.set_num_threads(1)
    layer = torch.nn.Conv2d(options.channels, 8, 3, padding=1).to(options.device)
    route = ROUTES[name](options.energy, options.device)
    inputs = [maps(i, options) for i in range(count)]
    torch.linalg.eigh(torch.eye(8, device=options.device))  # the library's own start
    clock = time.process_time if options.device == "cpu" else time.perf_counter
    before, start = _memory(options.device), clock()
    with Recording(layer, route.add):
        for image in inputs:
            layer(image)
            route.end_image()
    vectors = route.spans()["weight"].vectors.cpu()
    connection.send((clock() - start, (_memory(options.device) - before) / 1e6, vectors.numpy()))


def _memory(device: str) -> int:
    return (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        if device == "cpu"
        else torch.cuda.max_memory_allocated()
    )


def run(name: str, count: int, options):
    context = multiprocessing.get_context("fork" if options.device == "cpu" else "spawn")
    receiver, sender = context.Pipe(False)
    process = context.Process(target=measure, args=(name, count, options, sender))
    process.start()
    seconds, peak, vectors = receiver.recv()
    process.join()
    return seconds, peak, torch.from_numpy(vectors)


@torch.no_grad()
def gram_of(options) -> Tensor:
    total = []
    with Recording(layer := torch.nn.Conv2d(options.channels, 8, 3, padding=1), lambda _, X: total.append(X @ X.T)):
        for i in range(options.images):
            layer(maps(i, options).cpu())
            total[:] = [sum(total)]
    return total[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--timed", type=int, help="images that the SVD route takes before its time is scaled up")
    parser.add_argument("--channels", type=int, default=256)
    parser.add_argument("--side", type=int, default=32, help="px of the maps")
    parser.add_argument("--energy", type=float, default=0.999, help="threshold; at 1 both find the same span")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    counts = {"gram": options.images, "isvd": min(options.timed or options.images, options.images)}
    found = {name: run(name, counts[name], options) for name in ROUTES}
    C = gram_of(options)
    print(f"{9 * options.channels} inputs, {options.images} images of {options.side**2} columns on {options.device},")
    print(f"spans of {options.energy} of the energy")
    for name, (seconds, peak, U) in found.items():
        held = (U * (C @ U)).sum() / C.trace()
        print(
            f"{name}: {seconds:.1f} s for {counts[name]}, {_all(name, found, counts):.1f} s for {options.images}; "
            f"peak {peak:.0f} MB more; rank {U.shape[1]}; held {held:.5f}"
        )
    print(f"the Gram route is {_all('isvd', found, counts) / _all('gram', found, counts):.1f} times faster")


def _all(name: str, found: dict, counts: dict) -> float:
    return found[name][0] * counts["gram"] / counts[name]


if __name__ == "__main__":
    main()
