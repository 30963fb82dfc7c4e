"""Train the small text-to-image prior on random products: autoencoder, then denoiser, text encoder and mask tokens.

A latent diffusion model (Rombach et al., arXiv:2112.10752) at 64 px, in the layout of diffusers. A product is named by
four words. Unlike the large priors, which know text alone, it has also seen where the item lies (tokens made of the
encoded mask): one this small does not follow a mask otherwise.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from bench.schema.request import PROCEDURAL_PRIOR, prior_digest
from pretraining.prior.autoencoder import train_autoencoder
from pretraining.prior.corpus import Corpus
from pretraining.prior.denoiser import train_denoiser
from pretraining.prior.model import Parts, parts

HALF = "autoencoder.pt"  # what the first stage leaves for the second


@dataclass(frozen=True)
class Size:
    """How much of everything: about three quarters of an hour on one core."""

    products: int = 1200
    views: int = 8  # pictures of each
    autoencoder: int = 2000  # batches
    denoiser: int = 8000
    known: int = 128  # products whose names stay in the vocabulary


def prior(out: Path | None = None, seed: int = 0, size: Size | None = None, log=print) -> dict[str, float]:
    """Train on one thread and write the folder `out`, by default the one that the project ships.

    The same seed and size give the same weights on the same machine. An autoencoder that an earlier run with them left
    in `out` is taken up. Returns the last losses.
    """
    threads, size, out = torch.get_num_threads(), size or Size(), Path(out or PROCEDURAL_PRIOR)
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            losses = _train(out, seed, size, log)
    finally:
        torch.set_num_threads(threads)
    written = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    log(f"wrote {out}: {written / 1e6:.2f} MB, sha256 {prior_digest(out)[:16]}")
    return losses


def _train(out: Path, seed: int, size: Size, log) -> dict[str, float]:
    corpus = Corpus.of(seed, size.products, size.views)
    log(f"drew {len(corpus.images)} pictures of {size.products} products")
    torch.manual_seed(seed)
    made = parts(size.known)
    losses = {"autoencoder": _autoencoder(made.vae, corpus, seed, size, out, log)}
    torch.manual_seed(seed + 1)
    masker, losses["denoiser"] = train_denoiser(made, corpus, size.denoiser, log)
    _save(made, masker, out)
    (out / HALF).unlink()
    about = {"seed": seed, "command": f"python -m pretraining prior --seed {seed}", "torch": torch.__version__}
    (out / "about.json").write_text(json.dumps(about | losses, indent=2) + "\n")
    return losses


def _autoencoder(vae: nn.Module, corpus: Corpus, seed: int, size: Size, out: Path, log) -> float:
    """Train it, or take up the one that lies in `out` half done."""
    file, made_of = out / HALF, [seed, size.products, size.views, size.autoencoder]
    if file.is_file() and (found := torch.load(file))["made_of"] == made_of:
        log("autoencoder: taken up from an earlier run")
        vae.load_state_dict(found["state"])
        return found["loss"]
    loss = train_autoencoder(vae, corpus, size.autoencoder, log)
    out.mkdir(parents=True, exist_ok=True)
    torch.save({"made_of": made_of, "loss": loss, "state": vae.state_dict()}, file)
    return loss


def _save(made: Parts, masker: nn.Linear, out: Path) -> None:
    """Each part into its folder, in float16."""
    from safetensors.torch import save_file

    for name, part in made._asdict().items():
        (part.half() if isinstance(part, nn.Module) else part).save_pretrained(out / name)
    (out / "mask_tokens").mkdir(exist_ok=True)
    save_file(masker.half().state_dict(), out / "mask_tokens" / "model.safetensors")
