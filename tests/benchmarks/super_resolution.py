"""Seconds per training image of SCALE's super-resolution: batched beside the paper's one image per step, in one run.

    python tests/benchmarks/super_resolution.py [--width 32] [--epochs 20] [--device cuda]

Both train from the same weights on the same images of the embedded stream, as often, and batches half as often again
too; what they are worth is PSNR on held-out images: of the classes, but neither trained on nor looked at. One image per
step is decoded in both ways, with running statistics and, as released, with each image's own; the better one counts.
"""

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from bench import data
from bench.data import rows_of
from bench.evaluation.replay_fidelity import psnr
from bench.schema import stream
from methods._superresolution import Options, SuperResolution, lanczos

# Images per step, learning rate, share of the epochs; the paper's first.
SETTINGS = (
    (1, 2e-4, 1),
    (8, 1e-3, 1),
    (8, 1e-3, 1.5),
    (16, 1e-3, 1),
)


def pictures(scenario: str, pixels: int, cache: Path) -> tuple[Tensor, Tensor]:
    """Training images, and as many that are held out: every other one of each class, (n, 3, H, W) uint8."""
    chosen = stream.load_stream(scenario)
    arrays, _ = data.load_arrays(chosen, None, pixels, cache)
    rows = rows_of(arrays, list(range(len(chosen.classes))), train=True)
    images = torch.from_numpy(arrays.images[rows]).movedim(-1, 1).contiguous()
    return images[::2], images[1::2]


def measure(options: Options, train: Tensor, held: Tensor, device: str) -> tuple[float, dict[bool, float]]:
    """Milliseconds per training image, and PSNR of held-out images without and with `train_mode_at_test`."""
    torch.manual_seed(0)
    codec = SuperResolution(options, train.shape[-1]).to(device)
    pairs = codec.shrink(train), train
    start = time.perf_counter()
    codec.fit(pairs, None, None)
    if device != "cpu":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    quality = {}
    for on in (False, True):
        codec.net.generator.train_mode_at_test(on)
        quality[on] = psnr(codec.decode(codec.shrink(held)) / 255, held / 255)
    return 1000 * seconds / (len(train) * options.epochs), quality


def main() -> None:
    """Print a line per batch size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", default="synthetic/1x6")
    parser.add_argument("--pixels", type=int, default=64)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    train, held = pictures(given.scenario, given.pixels, given.cache)
    options = replace(Options.tiny(), width=given.width, epochs=given.epochs)
    blurred = lanczos(lanczos(held, given.pixels // options.factor), given.pixels)
    print(f"{len(train)} images, {given.epochs} epochs, {given.pixels} px, width {given.width}, {given.device}")
    print(f"Lanczos alone: PSNR {psnr(blurred / 255, held / 255):.2f} dB")
    first = None
    for batch_size, lr, longer in SETTINGS:
        chosen = replace(options, batch_size=batch_size, lr=lr, epochs=round(longer * given.epochs))
        ms, quality = measure(chosen, train, held, given.device)
        best = quality[False] if first else max(quality.values())
        first = first or (ms, best)
        print(
            f"batch {batch_size:3} lr {lr:.0e} epochs {chosen.epochs:3}: {ms:7.2f} ms/image ({first[0] / ms:5.2f} x)"
            f", PSNR {quality[False]:.2f} dB (own statistics {quality[True]:.2f}), {best - first[1]:+.2f} dB",
            flush=True,
        )


if __name__ == "__main__":
    main()
