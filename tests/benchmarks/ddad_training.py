"""Training throughput of the detector `ddad` against a plain fp32 loop of the same U-Net, turn by turn in one process.

    python tests/benchmarks/ddad_training.py [--device cuda] [--side 256 --width 64 --batch 32] [--compile]

The loop is what one writes first: NCHW, float32, Adam as it comes. Both do the same arithmetic per image: noise the
batch, predict the noise, sum of squares, backward, step. Turns alternate, so that a busy machine slows both alike.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from diffusers import DDPMScheduler

from bench.api import Setup
from bench.schema.request import BackboneSpec, Weights
from methods.detectors import ddad
from methods.detectors.ddad.diffusion import unet


def plain(config: ddad.Config, side: int, images: torch.Tensor) -> Callable[[], None]:
    """One step of the loop that one writes first."""
    net = unet(config, side).to(images.device, memory_format=torch.contiguous_format)
    scheduler = DDPMScheduler(1000, 1e-4, 0.02)
    optimizer = torch.optim.Adam(net.parameters(), lr=config.lr, weight_decay=config.decay)

    def step() -> None:
        clean = images * 2 - 1
        noise = torch.randn_like(clean)
        level = torch.randint(1000, (len(clean),), device=clean.device)
        loss = (noise - net(scheduler.add_noise(clean, noise, level), level).sample).square().sum() / len(clean)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def detector(config: ddad.Config, side: int, images: torch.Tensor) -> Callable[[], None]:
    """One step as the strategy does it."""
    backbone = BackboneSpec("test_resnet", Weights("random"))
    built = ddad.build(config, Setup(side, 0, images.device.type, backbone)).to(images.device).train()
    optimizer = built.optimizer()

    def step() -> None:
        loss = built.loss(images)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def seconds(step: Callable[[], None], device: str) -> float:
    start = time.perf_counter()
    step()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--side", type=int, default=64, help="px")
    parser.add_argument("--width", type=int, default=32, help="channels of the first level")
    parser.add_argument("--batch", type=int, default=8, help="images")
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    config = ddad.Config(width=options.width, compile=options.compile)
    images = torch.rand(options.batch, 3, options.side, options.side, device=options.device)
    steps = {"plain fp32": plain(config, options.side, images), "ddad": detector(config, options.side, images)}
    for step in steps.values():  # warm up, compile
        seconds(step, options.device)
    taken = {name: [] for name in steps}
    for _ in range(options.turns):
        for name, step in steps.items():
            taken[name].append(seconds(step, options.device))
    for name, each in taken.items():
        median, best = (options.batch / value for value in (statistics.median(each), min(each)))
        print(f"{name:12} {median:8.2f} images/s (median of {options.turns}; best {best:.2f})")
    pairs = zip(taken["plain fp32"], taken["ddad"], strict=True)
    print(f"ddad is {statistics.median(a / b for a, b in pairs):.2f} times as fast (median of neighbouring turns)")


if __name__ == "__main__":
    main()
