"""Do the project's own features beat random ones? Nearest-neighbour scoring, embedded stream and real images.

    python tests/benchmarks/bench_features.py [FOLDER in MVTec layout ...] [--weights FILE] [--pasted]

`--pasted` judges on training images only: held-out normal ones against copies with a pasted scrap, for tuning.
"""

import argparse
from ast import literal_eval
from functools import partial
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score
from torch.nn import functional as F

from bench.schema import stream
from pretraining.features import ARCHITECTURE, WEIGHTS

TRAIN, BANK = 100, 2000


def extract(network, images: np.ndarray, stages: tuple[int, ...]) -> torch.Tensor:
    """Locally averaged features (N, h, w, C) of the stages, at the resolution of the first."""
    found = []
    for part in torch.from_numpy(images).permute(0, 3, 1, 2).split(32):
        with torch.inference_mode():
            maps = [m for i, m in enumerate(network(part.float() / 255)) if i in stages]
        maps = [F.avg_pool2d(m, 3, 1, 1) for m in maps]
        maps = [F.interpolate(m, maps[0].shape[-2:], mode="bilinear", align_corners=False) for m in maps]
        found.append(torch.cat(maps, 1).permute(0, 2, 3, 1))
    return torch.cat(found)


def judge(network, train, test, labels, masks, stages) -> tuple[float, float]:
    """Image and pixel AUROC of the distance to the nearest of BANK random training patches."""
    patches = extract(network, train, stages).flatten(0, 2)
    bank = patches[torch.randperm(len(patches), generator=torch.Generator().manual_seed(0))[:BANK]]
    found = extract(network, test, stages)
    maps = torch.stack([torch.cdist(one.flatten(0, 1), bank).amin(1).view(one.shape[:2]) for one in found])
    maps = F.interpolate(maps[:, None], masks.shape[1:], mode="bilinear", align_corners=False)
    maps = F.avg_pool2d(maps, 5, 1, 2, count_include_pad=False)[:, 0].numpy()
    pixel = roc_auc_score(masks.ravel(), maps.ravel()) if masks.any() else np.nan
    return roc_auc_score(labels, maps.max((1, 2))), pixel


def rendered(difficulty: float, size: int):
    """Each class of the embedded stream: train, test, labels, masks."""
    from scenarios import synthetic

    options = stream.load_stream("synthetic/1x6").options | {"difficulty": difficulty}
    for name in synthetic.CLASSES:
        found = synthetic.samples(None, [name], options)
        pixels = [synthetic.decode(sample, size) for sample in found]
        image, mask = (np.stack(part) for part in zip(*pixels, strict=True))
        train, labels = np.array([s.split == "train" for s in found]), np.array([s.label for s in found])
        yield name, image[train], image[~train], labels[~train], mask[~train]


def photographed(folder: Path, size: int):
    """Each class of an MVTec-like folder: train (at most TRAIN), test, labels, masks."""
    for home in sorted(path for path in folder.iterdir() if (path / "train").is_dir()):
        train = np.stack([_read(path, size) for path in sorted((home / "train/good").iterdir())[:TRAIN]])
        paths = sorted(path for path in (home / "test").glob("*/*"))
        labels = np.array([path.parent.name != "good" for path in paths]).astype(int)
        truth = [home / "ground_truth" / path.parent.name / f"{path.stem}_mask.png" for path in paths]
        blank = np.zeros((size, size), bool)
        masks = [_read(t, size, "L") > 127 if bad else blank for t, bad in zip(truth, labels, strict=True)]
        yield home.name, train, np.stack([_read(path, size) for path in paths]), labels, np.stack(masks)


def pasted(folder: Path, size: int):
    """Each class's training images alone: half to learn, the rest as they are and with a scrap pasted elsewhere."""
    rng = np.random.default_rng(0)
    for home in sorted(path for path in folder.iterdir() if (path / "train").is_dir()):
        images = np.stack([_read(path, size) for path in sorted((home / "train/good").iterdir())[:TRAIN]])
        train, good = images[::2], images[1::2]
        bad, masks = good.copy(), np.zeros((2 * len(good), size, size), bool)
        for i, image in enumerate(bad):
            high, wide = rng.integers(size // 20, size // 6, 2)
            y, x, from_y, from_x = rng.integers(0, size - size // 6, 4)
            scrap = np.rot90(good[i, from_y : from_y + high, from_x : from_x + wide], 2) * rng.uniform(0.85, 1.15, 3)
            image[y : y + high, x : x + wide] = scrap.clip(0, 255)
            masks[len(good) + i, y : y + high, x : x + wide] = True
        yield home.name, train, np.concatenate([good, bad]), np.repeat([0, 1], len(good)), masks


def _read(path: Path, size: int, mode: str = "RGB") -> np.ndarray:
    way = Image.Resampling.BILINEAR if mode == "RGB" else Image.Resampling.NEAREST
    return np.asarray(Image.open(path).convert(mode).resize((size, size), way))


def _networks(weights: Path):
    """The trained network, and three with random weights."""
    trained = timm.create_model(ARCHITECTURE, num_classes=0)
    trained.load_state_dict(load_file(weights))
    nets = [trained]
    for seed in range(3):
        torch.manual_seed(seed)
        nets.append(timm.create_model(ARCHITECTURE, num_classes=0))
    with safe_open(weights, "pt") as file:
        mean, std = (torch.tensor(literal_eval(file.metadata()[key])).view(3, 1, 1) for key in ("mean", "std"))

    def read(net: torch.nn.Module, image: torch.Tensor):
        return net.forward_intermediates((image - mean) / std, indices=[1, 2, 3], intermediates_only=True)

    return [partial(read, net.eval()) for net in nets]


def main() -> None:
    """Print a row per class: trained, and mean and range of three random."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--pasted", action="store_true")
    parser.add_argument("--difficulty", type=float, default=0.3)
    parser.add_argument("--stages", default="01", help="which of the strides 4, 8, 16 (0, 1, 2)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    nets, stages = _networks(options.weights), tuple(int(digit) for digit in options.stages)
    sources = [] if options.pasted else [("synthetic, 64 px", rendered(options.difficulty, 64))]
    sources += [(f"{f.name}, 128 px", (pasted if options.pasted else photographed)(f, 128)) for f in options.folders]
    for title, classes in sources:
        print(f"\n{title:16} image: trained  random (min..max)        gain   pixel: trained  random   gain", flush=True)
        rows = []
        for name, *data in classes:
            rows.append(np.array([judge(net, *data, stages) for net in nets]))
            print(_row(name, rows[-1]), flush=True)
        print(_row("mean", np.mean(rows, 0)), flush=True)


def _row(name: str, values: np.ndarray) -> str:
    (image, pixel), random = values[0], values[1:]
    low, middle, high = random[:, 0].min(), random[:, 0].mean(), random[:, 0].max()
    return (
        f"{name:16} {image:14.3f} {middle:7.3f} ({low:.3f}..{high:.3f}) {image - middle:+11.3f}"
        f" {pixel:16.3f} {random[:, 1].mean():7.3f} {pixel - random[:, 1].mean():+6.3f}"
    )


if __name__ == "__main__":
    main()
