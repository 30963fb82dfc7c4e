"""How near ReplayCAD's replays come to their class: Fréchet distances of features (FFD), and a sheet to look at.

    python tests/benchmarks/replay_quality.py [--scenario synthetic/1x6] [--set replaycad.guidance=2.0] [--sheet FILE]

Each class is learned from its training images as in a run at the size `tiny`. Its replays, its training images passed
through the autoencoder alone, and as many images of each other class are compared with its normal test images, which
nothing has learned from. `nearest` is the least distance of another class: a replay should be nearer.
"""

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

import torch
from tabulate import tabulate
from torch import Tensor
from torchvision.utils import make_grid, save_image

from bench import data
from bench.evaluation.replay_fidelity import Quality, psnr
from bench.schema import config, stream
from methods import replaycad
from methods._latent_diffusion import load
from methods.replaycad.code import learn, recall
from methods.replaycad.masks import foreground

SHOWN = 8  # pictures of each kind on the sheet


def normal(arrays, category: int, *, train: bool) -> Tensor:
    """Normal images (n, 3, H, W) in 0..1 of a class."""
    rows = [row for row in data.rows_of(arrays, [category], train=train) if train or not arrays.labels[row]]
    return torch.from_numpy(arrays.images[rows]).movedim(-1, 1).float() / 255


def replays(model, settings, images: Tensor, category: int, size: int) -> Tensor:
    torch.manual_seed(category)
    code = learn(model, settings, images, foreground(images))
    return recall(model, settings, code, size, category).float() / 255


@torch.no_grad()
def decoded(model, images: Tensor) -> Tensor:
    return model.decode(model.encode(images, sample=False))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", default="synthetic/1x6", help="a stream that needs no data, or a YAML file")
    parser.add_argument("--set", nargs="*", default=[], metavar="replaycad.OPTION=VALUE")
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    parser.add_argument("--sheet", type=Path, help="where to draw training images and replays of each class")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    settings = config.resolve("replaycad", replaycad, "tiny", config.parse(asked.set).get("replaycad", {}))
    chosen = stream.load_stream(asked.scenario)
    arrays, _ = data.load_arrays(chosen, None, chosen.image_size, asked.cache)
    model, quality = load(settings.model, "replaycad.model"), Quality(chosen, arrays)
    tests = [normal(arrays, category, train=False) for category in range(len(chosen.classes))]
    rows, sheet = [], []
    for category, name in enumerate(chosen.classes):
        images = normal(arrays, category, train=True)
        made, restored = replays(model, settings, images, category, chosen.image_size), decoded(model, images)
        others = [quality.ffd(other, tests[category]) for i, other in enumerate(tests) if i != category]
        mine = quality.ffd(made, tests[category])
        training, through = (quality.ffd(each, tests[category]) for each in (images, restored))
        rows.append([name, mine, min(others), mine < min(others), through, training, psnr(restored, images)])
        sheet += [*images[:SHOWN], *made[:SHOWN]]
    heads = ["class", "replays", "nearest", "nearer", "decoded", "training images", "decoded, dB"]
    print(tabulate(rows, heads, tablefmt="pipe", floatfmt=".1f"))
    if asked.sheet:
        save_image(make_grid(sheet, nrow=2 * SHOWN), asked.sheet)


if __name__ == "__main__":
    main()
