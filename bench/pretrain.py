"""Train the small feature network on procedural pictures: which material is it, at every place and stride."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from bench.procedural import MARKS, marked, material, mosaic, palettes

WEIGHTS = Path(__file__).parent / "weights" / "procedural_features.safetensors"
ARCHITECTURE = "test_resnet"  # timm: 0.37 M parameters; strides 4, 8, 16, 32 after layer1 .. layer4
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # what backbones are fed with unless told otherwise
MATERIALS, PALETTES, SIDE, SIZE, BATCH = 256, 24, 160, 64, 32
RATE, DECAY, STEPS = 3e-3, 0.05, 2500
# The pixel in the middle of each place that a stage is read at; of stride 4 only every other place, for time.
PLACES = (slice(6, None, 8), slice(4, None, 8), slice(8, None, 16), slice(16, None, 32))


class Pretext(nn.Module):
    """The network, a linear reading of the material at each place of each stage, and a temperature per stage."""

    def __init__(self, materials: int):
        super().__init__()
        import timm

        self.network = timm.create_model(ARCHITECTURE, num_classes=0)
        widths = [stage["num_chs"] for stage in self.network.feature_info[1:]]
        self.heads = nn.ModuleList(nn.Conv2d(width, materials, 1) for width in widths)
        self.sharpness = nn.Parameter(torch.zeros(len(widths)))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Normalised images (B, 3, H, W) -> features (B, C, H / s, W / s) for s = 4, 8, 16, 32."""
        net = self.network
        x, found = net.maxpool(net.act1(net.bn1(net.conv1(image)))), []
        for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
            x = stage(x)
            found.append(x)
        return found

    def place_loss(self, stage: int, plain: Tensor, other: Tensor, kept: Tensor) -> Tensor:
        """How badly the nearest of all places (by squared distance) is the same place under another light.

        `plain`, `other` (B, C, h, w) are two views; where `kept` (B, h, w) is False the other one bears a mark, and is
        only something to be told apart. Places compete within groups of at least 256.
        """
        group = max(1, 256 // plain.shape[-1] ** 2)
        a, b = (v.flatten(2).transpose(1, 2).reshape(len(v) // group, -1, v.shape[1]) for v in (plain, other))
        far = torch.cdist(a, b).square() / a.shape[-1]
        logits = -far * self.sharpness[stage].exp() * 5
        target = torch.arange(a.shape[1]).expand(len(a), -1)
        loss = F.cross_entropy(logits.transpose(1, 2), target, reduction="none")
        return loss[kept.reshape(len(a), -1)].mean()


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
        image, label, mark = _batch(rng, bank)
        maps = model(image)
        reads = [head(m[..., 1::2, 1::2] if m is maps[0] else m) for head, m in zip(model.heads, maps, strict=True)]
        truth = [label[:, places, places] for places in PLACES]
        name = sum(F.cross_entropy(read, true, label_smoothing=0.1) for read, true in zip(reads, truth, strict=True))
        place = 0
        for stage, m in enumerate(maps[:3]):
            marked = F.max_pool2d(mark, mark.shape[-1] // m.shape[-1])[:, 0] > 0
            place = place + model.place_loss(stage, *m.chunk(2), ~marked)
        loss = name + 2 * place
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        right.append([(r.argmax(1) == t).float().mean().item() for r, t in zip(reads, truth, strict=True)])
        if step % 100 == 0 or step == steps:
            shares = dict(zip(("4", "8", "16", "32"), np.mean(right[-100:], 0).round(3).tolist(), strict=True))
            log(
                f"step {step}/{steps} loss {loss.item():.3f} places {place.item():.3f} right per stride {shares} {time.perf_counter() - started:.0f} s"
            )
    return model.eval(), shares


def _batch(rng: np.random.Generator, bank: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    """Each mosaic twice, the second time marked: normalised images (2 B, 3, S, S) under random light,
    their materials (2 B, S, S), and the marks of the second half (B, 1, S, S)."""
    pairs = [mosaic(rng, bank, SIZE) for _ in range(BATCH)]
    painted = [marked(rng, image) for image, _ in pairs]
    pixels = [image for image, _ in pairs] + [image for image, _ in painted]
    image = _lit(torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255)
    label = torch.from_numpy(np.stack([label for _, label in pairs])).repeat(2, 1, 1)
    mark = torch.from_numpy(np.stack([mark for _, mark in painted]))[:, None].float()
    return (image - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1), label, mark


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
        "task": f"which of {MATERIALS} procedural materials, at every place, strides 4, 8, 16 and 32",
        "accuracy": str(accuracy),
        "command": f"python -m bench pretrain features --seed {seed} --steps {steps}",
        "torch": torch.__version__,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, out, metadata=about)
    digest = hashlib.sha256(out.read_bytes()).hexdigest()
    log(f"wrote {out}: {out.stat().st_size / 1e6:.2f} MB, sha256 {digest[:16]}")
