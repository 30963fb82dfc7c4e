"""Train the small feature network on procedural pictures: which material is it, at every place and stride."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.procedural import material, mosaic, palettes

WEIGHTS = Path(__file__).parent / "weights" / "procedural_features.safetensors"
ARCHITECTURE = "test_resnet"  # timm: 0.37 M parameters; strides 4, 8, 16, 32 after layer1 .. layer4
MEAN = STD = (0.5, 0.5, 0.5)
MATERIALS, PALETTES, SIDE, SIZE, BATCH = 256, 24, 160, 64, 64
RATE, DECAY, STEPS = 3e-3, 0.05, 2500
# The pixel in the middle of each place that a stage is read at; of stride 4 only every other place, for time.
PLACES = (slice(6, None, 8), slice(4, None, 8), slice(8, None, 16), slice(16, None, 32))


class Pretext(nn.Module):
    """The network with a linear reading of the material at each place of each stage."""

    def __init__(self, materials: int):
        super().__init__()
        import timm

        self.network = timm.create_model(ARCHITECTURE, num_classes=0)
        widths = [stage["num_chs"] for stage in self.network.feature_info[1:]]
        self.heads = nn.ModuleList(nn.Conv2d(width, materials, 1) for width in widths)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Normalised images (B, 3, H, W) -> logits (B, materials, H / t, W / t), t = 8, 8, 16, 32, of strides 4, 8, 16, 32."""
        net = self.network
        x, found = net.maxpool(net.act1(net.bn1(net.conv1(image)))), []
        for stage, head in zip((net.layer1, net.layer2, net.layer3, net.layer4), self.heads, strict=True):
            x = stage(x)
            found.append(head(x[..., 1::2, 1::2] if stage is net.layer1 else x))
        return found


def features(out: Path = WEIGHTS, seed: int = 0, steps: int = STEPS, log=print) -> dict[str, float]:
    """Train on one thread, write the weights (safetensors, with how they came about in the header) to `out`.

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
    _save(model.network, Path(out), seed, steps, accuracy, log)
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
        image, label = _batch(rng, bank)
        logits = model(image)
        truth = [label[:, places, places] for places in PLACES]
        loss = sum(F.cross_entropy(read, true, label_smoothing=0.1) for read, true in zip(logits, truth, strict=True))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        right.append([(r.argmax(1) == t).float().mean().item() for r, t in zip(logits, truth, strict=True)])
        if step % 100 == 0 or step == steps:
            reads = dict(zip(("4", "8", "16", "32"), np.mean(right[-100:], 0).round(3).tolist(), strict=True))
            log(
                f"step {step}/{steps} loss {loss.item():.3f} right per stride {reads} {time.perf_counter() - started:.0f} s"
            )
    return model.eval(), reads


def _batch(rng: np.random.Generator, bank: np.ndarray) -> tuple[Tensor, Tensor]:
    """Normalised mosaics (B, 3, S, S) under random light, contrast and grain, and their materials (B, S, S)."""
    pairs = [mosaic(rng, bank, SIZE) for _ in range(BATCH)]
    image = torch.from_numpy(np.stack([image for image, _ in pairs])).permute(0, 3, 1, 2).float() / 255
    middle = image.mean((2, 3), keepdim=True)
    contrast, tint = 1 + 0.3 * torch.rand(BATCH, 1, 1, 1) - 0.15, 1 + 0.05 * torch.randn(BATCH, 3, 1, 1)
    image = ((image - middle) * contrast + middle) * tint * (0.8 + 0.35 * torch.rand(BATCH, 1, 1, 1))
    image = image + 0.03 * torch.rand(BATCH, 1, 1, 1) * torch.randn_like(image)
    return (image.clamp(0, 1) - MEAN[0]) / STD[0], torch.from_numpy(np.stack([label for _, label in pairs]))


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
