"""Train the small feature network on procedural pictures: materials side by side, under other light, marked.

Two tasks at every place: name the material (strides 8 to 32), and have the nearest features be of the same, unmarked
material (strides 4 to 16; neighbourhood components analysis, Goldberger et al., NeurIPS 2004, with marks as outliers).
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pretraining.procedural import marked, material, mosaic, palettes

WEIGHTS = Path(__file__).parents[1] / "bench" / "weights" / "procedural_features.safetensors"
ARCHITECTURE = "test_resnet"  # timm: 0.37 M parameters; strides 4, 8, 16, 32 after layer1 .. layer4
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # what backbones are fed with unless told otherwise
MATERIALS, PALETTES, SIDE, SIZE, PLAY, BATCH, ANCHORS = 256, 24, 160, 64, 2, 32, 64
RATE, DECAY, STEPS = 3e-3, 0.05, 1000
# The pixel in the middle of each place of a stage.
PLACES = (slice(2, None, 4), slice(4, None, 8), slice(8, None, 16), slice(16, None, 32))


class Pretext(nn.Module):
    """The network, a linear reading of the material at each place of each stage, and a temperature per stage."""

    def __init__(self, materials: int):
        super().__init__()
        import timm

        self.network = timm.create_model(ARCHITECTURE, num_classes=0)
        widths = [stage["num_chs"] for stage in self.network.feature_info[1:]]
        self.heads = nn.ModuleList(nn.Conv2d(width, materials, 1) for width in widths[1:])
        self.sharpness = nn.Parameter(torch.zeros(len(widths)))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Normalised images (B, 3, H, W) -> features (B, C, H / s, W / s) for s = 4, 8, 16, 32."""
        net = self.network
        x, found = net.maxpool(net.act1(net.bn1(net.conv1(image)))), []
        for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
            x = stage(x)
            found.append(x)
        return found

    def nearest_loss(self, stage: int, maps: Tensor, label: Tensor, mark: Tensor) -> Tensor:
        """How badly the nearest places are of the same material: what nearest-neighbour scoring asks of features.

        `maps` (2 B, C, h, w) holds B views, then the same pictures shifted a little, under another light and marked;
        `label` (B, h, w) is the material, `mark` (B, h, w) True where the second view bears a mark: a place near to
        nothing. Places compete within groups of at least 256 (neighbourhood components analysis).
        """
        plain, other = maps.chunk(2)
        group = max(1, 256 // plain.shape[-1] ** 2)
        a, b = (v.flatten(2).transpose(1, 2).reshape(len(v) // group, -1, v.shape[1]) for v in (plain, other))
        names, marked = label.reshape(len(a), -1), mark.reshape(len(a), 1, -1)
        some = torch.randperm(a.shape[1])[:ANCHORS]
        same = names[:, some, None] == names[:, None, :]
        scale = self.sharpness[stage].exp() * 5 / a.shape[-1]
        near, own = (-_squared(a[:, some], v) * scale for v in (b, a))
        right = near.masked_fill(~same | marked, -1e4).logsumexp(-1)
        wrong = torch.cat([near.masked_fill(same & ~marked, -1e4), own.masked_fill(same, -1e4)], -1).logsumexp(-1)
        return F.softplus(wrong - right)[(same & ~marked).any(-1)].mean()


def _squared(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances (B, n, m) between rows of a (B, n, C) and b (B, m, C)."""
    return a.square().sum(-1)[..., None] + b.square().sum(-1)[:, None] - 2 * a @ b.transpose(1, 2)


def features(out: Path | None = None, seed: int = 0, steps: int = STEPS, log=print) -> dict[str, float]:
    """Train on one thread, write the weights (safetensors, with how they came about in the header).

    `out`: the file, by default the one that the project ships. `log` is told how far it is.
    The same seed and steps give the same weights on the same machine. Returns the last accuracy per stride.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model, accuracy = _train(np.random.default_rng(seed), steps, log)
    finally:
        torch.set_num_threads(threads)
    _save(model.network, Path(out or WEIGHTS), seed, steps, accuracy, log)
    return accuracy


def _train(rng: np.random.Generator, steps: int, log) -> tuple[Pretext, dict[str, float]]:
    log(f"drawing {MATERIALS} materials")
    ramps = palettes(rng, PALETTES)
    bank = np.stack([material(rng, SIDE, ramps[i % PALETTES]) * 255 for i in range(MATERIALS)]).astype(np.uint8)
    model, started = Pretext(MATERIALS), time.perf_counter()
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, max(steps, 2), pct_start=0.1)
    right: list[list[float]] = []
    for step in range(1, steps + 1):
        loss, near, reads = _judge(model, *_batch(rng, bank))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        right.append(reads)
        if step % 100 == 0 or step == steps:
            shares = dict(zip(("8", "16", "32"), np.mean(right[-100:], 0).round(3).tolist(), strict=True))
            spent = f"loss {loss.item():.3f}, of it nearest {near.item():.3f}, {time.perf_counter() - started:.0f} s"
            log(f"step {step}/{steps}: {spent}; materials named rightly per stride {shares}")
    return model.eval(), shares


def _judge(model: Pretext, image: Tensor, label: Tensor, mark: Tensor) -> tuple[Tensor, Tensor, list[float]]:
    """The loss of a batch, the part of it that nearest neighbours cause, and the share of places named rightly."""
    maps = model(image)
    reads = [head(m) for head, m in zip(model.heads, maps[1:], strict=True)]
    truth = [label[:, places, places].repeat(2, 1, 1) for places in PLACES[1:]]
    name = sum(F.cross_entropy(read, true, label_smoothing=0.1) for read, true in zip(reads, truth, strict=True))
    near = image.new_zeros(())
    for stage, (m, places) in enumerate(zip(maps[:3], PLACES[:3], strict=True)):
        marks = F.max_pool2d(mark, mark.shape[-1] // m.shape[-1])[:, 0] > 0
        near = near + model.nearest_loss(stage, m, label[:, places, places], marks)
    right = [(read.argmax(1) == true).float().mean().item() for read, true in zip(reads, truth, strict=True)]
    return 0.5 * name + 2 * near, near, right


def _batch(rng: np.random.Generator, bank: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    """Each mosaic twice, the second time marked and shifted by up to PLAY px: normalised images (2 B, 3, S, S) under
    random light, their materials (B, S, S), and the marks of the second half (B, 1, S, S)."""
    plain, other, labels, marks = [], [], [], []
    for _ in range(BATCH):
        image, label = mosaic(rng, bank, SIZE + 2 * PLAY)
        painted, mark = marked(rng, image)
        middle, (y, x) = slice(PLAY, PLAY + SIZE), rng.integers(0, 2 * PLAY + 1, 2)
        plain.append(image[middle, middle])
        labels.append(label[middle, middle])
        other.append(painted[y : y + SIZE, x : x + SIZE])
        marks.append(mark[y : y + SIZE, x : x + SIZE])
    image = _lit(torch.from_numpy(np.stack(plain + other)).permute(0, 3, 1, 2).float() / 255)
    image = (image - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
    return image, torch.from_numpy(np.stack(labels)), torch.from_numpy(np.stack(marks))[:, None].float()


def _lit(image: Tensor) -> Tensor:
    """Images (B, 3, H, W) in 0..1 under random strength and colour of light, contrast, fall-off and grain."""
    count, middle = len(image), image.mean((2, 3), keepdim=True)
    line = torch.linspace(-1, 1, image.shape[-1])
    slope = 0.1 * torch.randn(count, 1, 1, 1) * line + 0.1 * torch.randn(count, 1, 1, 1) * line[:, None]
    contrast, tint = 0.85 + 0.3 * torch.rand(count, 1, 1, 1), 1 + 0.03 * torch.randn(count, 3, 1, 1)
    image = ((image - middle) * contrast + middle) * tint * (0.75 + 0.4 * torch.rand(count, 1, 1, 1) + slope)
    return (image + 0.03 * torch.rand(count, 1, 1, 1) * torch.randn_like(image)).clamp(0, 1)


def _save(network: nn.Module, out: Path, seed: int, steps: int, accuracy: dict[str, float], log) -> None:
    from safetensors.torch import save_file

    about = {
        "architecture": ARCHITECTURE,
        "mean": str(MEAN),
        "std": str(STD),
        "seed": str(seed),
        "steps": str(steps),
        "task": f"name {MATERIALS} procedural materials; nearest features of the same, unmarked material",
        "accuracy": str(accuracy),
        "command": f"python -m pretraining features --seed {seed}",
        "torch": torch.__version__,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, out, metadata=about)
    digest = hashlib.sha256(out.read_bytes()).hexdigest()
    log(f"wrote {out}: {out.stat().st_size / 1e6:.2f} MB, sha256 {digest[:16]}")
