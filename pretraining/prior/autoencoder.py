"""The first stage: pictures to latents and back."""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.evaluation.replay_fidelity import NETWORK, STRIDES
from bench.training.backbone import Features
from pretraining.prior.corpus import Corpus, scaled

BATCH, RATE = 16, 2e-3
FEATURES = 0.03  # weight of their error beside that of pixels
NOISE = 0.05  # in latents, as a share of their deviation: the decoder bears what the denoiser leaves


def train_autoencoder(vae: nn.Module, corpus: Corpus, steps: int, log) -> float:
    """Minimise squared error of pixels and of features. Returns the last error of pixels.

    The features are those of the project's own network in the place of LPIPS's (Zhang et al., arXiv:1801.03924).
    """
    seen = Features(NETWORK, STRIDES)
    seen.requires_grad_(False).eval()
    optimizer = torch.optim.AdamW(vae.parameters(), RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, max(steps, 2), pct_start=0.1)
    started = time.perf_counter()
    for step in range(1, steps + 1):
        image = _batch(corpus)
        with torch.autocast("cpu", torch.bfloat16):
            latents = vae.encode(image).latent
            noise = NOISE * latents.detach().std() * torch.randn_like(latents)
            restored = vae.decode(latents + noise).sample.float()
            apart = _apart(seen, restored, image)
        error = F.mse_loss(restored, image)
        loss = error + FEATURES * apart
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 250 == 0 or step == steps:
            log(f"autoencoder {step}/{steps}: error {error.item():.4f}, {time.perf_counter() - started:.0f} s")
    vae.requires_grad_(False).eval()
    return error.item()


def _batch(corpus: Corpus) -> Tensor:
    """Pictures in -1..1, the first of them a mask: it has to read them too."""
    image = scaled(corpus.images[torch.randint(len(corpus.images), (BATCH,))])
    image[:1] = scaled(corpus.masks[torch.randint(len(corpus.masks), (1,))])
    return image.contiguous(memory_format=torch.channels_last)


def _apart(seen: Features, a: Tensor, b: Tensor) -> Tensor:
    """Squared distance of the features of pictures, in variances of those of `b`."""
    pairs = zip(seen(a / 2 + 0.5).values(), seen(b / 2 + 0.5).values(), strict=True)
    return torch.stack([F.mse_loss(x.float(), y.float()) / y.float().var() for x, y in pairs]).mean()
