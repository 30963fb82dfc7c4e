"""Train the small text-to-image prior on random products: autoencoder, text encoder, denoiser, mask tokens.

A latent diffusion model (Rombach et al., arXiv:2112.10752) at 64 px, in the layout of diffusers. A product is named by
four words: its ground, its material, its shape, and one of its own. Unlike the large priors, which know text alone,
it has also seen where the item lies (tokens made of the encoded mask): one this small does not follow a mask otherwise.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.products import Product, products
from bench.request import PROCEDURAL_PRIOR

SIZE, PRODUCTS, VIEWS, MATERIALS, SIDE = 64, 800, 10, 96, 112
LENGTH, WIDTH = 12, 64  # text tokens, and numbers in each
ROW, FACES = 64, 32  # numbers of an encoded mask that become so many features; their tokens have WIDTH numbers
BATCH, RATE, BLIND = 16, 2e-3, 0.1  # BLIND: share of pictures without name and mask, for guidance
PROMPT = "a photo of a"
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@dataclass(frozen=True)
class Steps:
    """Batches of each stage: about a quarter of an hour on one core."""

    crops: int = 1600  # autoencoder, on quarters of pictures
    pictures: int = 80  # autoencoder, on whole ones
    denoiser: int = 2000


@dataclass(frozen=True)
class Corpus:
    """Pictures (n, 3, H, W) and masks as pictures, uint8, and the prompt of each."""

    images: Tensor
    masks: Tensor
    prompts: list[str]

    @classmethod
    def draw(cls, rng: np.random.Generator, chosen: list[Product]) -> Corpus:
        drawn = [product.draw(rng, SIZE) for product in chosen for _ in range(VIEWS)]
        images = torch.from_numpy(np.stack([image for image, _ in drawn])).movedim(-1, 1).contiguous()
        masks = torch.from_numpy(np.stack([mask for _, mask in drawn]))[:, None].byte().mul(255).expand(-1, 3, -1, -1)
        return cls(images, masks, [f"{PROMPT} {' '.join(p.words)}" for p in chosen for _ in range(VIEWS)])


def prior(out: Path | None = None, seed: int = 0, steps: Steps | None = None, log=print) -> dict[str, float]:
    """Train on one thread and write the folder `out`, by default the one that the project ships.

    The same seed and steps give the same weights on the same machine. Returns the last losses.
    """
    threads, steps = torch.get_num_threads(), steps or Steps()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            corpus = Corpus.draw(rng := np.random.default_rng(seed), products(rng, PRODUCTS, MATERIALS, SIDE))
            log(f"drew {len(corpus.images)} pictures of {PRODUCTS} products")
            pipeline = _pipeline(corpus.prompts)
            losses = {"autoencoder": _autoencoder(pipeline.vae, corpus, steps, log)}
            masker = nn.Linear(ROW, FACES)
            losses["denoiser"] = _denoiser(pipeline, masker, corpus, steps.denoiser, log)
    finally:
        torch.set_num_threads(threads)
    about = {"seed": seed, "command": f"python -m bench pretrain prior --seed {seed}", "torch": torch.__version__}
    _save(pipeline, masker, Path(out or PROCEDURAL_PRIOR), about | losses, log)
    return losses


def _pipeline(prompts: list[str]):
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import BertTokenizer, CLIPTextConfig, CLIPTextModel

    words = [*SPECIAL, "*", *sorted({word for prompt in prompts for word in prompt.split()})]
    tokenizer = BertTokenizer(vocab={word: i for i, word in enumerate(words)}, model_max_length=LENGTH)
    text = CLIPTextConfig(
        vocab_size=len(words), hidden_size=WIDTH, intermediate_size=2 * WIDTH, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=LENGTH, bos_token_id=2, eos_token_id=3, pad_token_id=0,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(16, 32, 48, 64), down_block_types=("DownEncoderBlock2D",) * 4, latent_channels=16,
        up_block_types=("UpDecoderBlock2D",) * 4, layers_per_block=1, norm_num_groups=1, sample_size=SIZE,
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=SIZE // 8, in_channels=16, out_channels=16, block_out_channels=(64, 64), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 2, up_block_types=("CrossAttnUpBlock2D",) * 2,
        cross_attention_dim=WIDTH, norm_num_groups=8, attention_head_dim=4,
    )  # fmt: skip
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1,
    )  # fmt: skip
    parts = {"vae": vae, "text_encoder": CLIPTextModel(text), "tokenizer": tokenizer, "unet": unet}
    return StableDiffusionPipeline(
        **parts, scheduler=scheduler, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )


def _autoencoder(vae: nn.Module, corpus: Corpus, steps: Steps, log) -> float:
    """Minimise squared error and a little of the divergence; masks are pictures too."""
    total, started = steps.crops + steps.pictures, time.perf_counter()
    optimizer, schedule = _optimizer(vae.parameters(), total)
    for step in range(1, total + 1):
        image = _scaled(corpus.images[torch.randint(len(corpus.images), (BATCH,))])
        image[:2] = _scaled(corpus.masks[torch.randint(len(corpus.masks), (2,))])
        if step <= steps.crops:
            row, column = torch.randint(SIZE // 2 + 1, (2,)).tolist()
            image = image[..., row : row + SIZE // 2, column : column + SIZE // 2]
        posterior = vae.encode(image).latent_dist
        error = F.mse_loss(vae.decode(posterior.sample()).sample, image)
        per_pixel = posterior.kl().mean() / image[0, 0].numel()
        _descend(error + 2e-3 * per_pixel, optimizer, schedule)
        if step % 100 == 0 or step == total:
            log(f"autoencoder {step}/{total}: error {error.item():.4f}, {time.perf_counter() - started:.0f} s")
    vae.requires_grad_(False).eval()
    return error.item()


def _denoiser(pipeline, masker: nn.Linear, corpus: Corpus, steps: int, log) -> float:
    """Learn to name the noise in encoded pictures from words and encoded masks."""
    latents, masks = _encoded(pipeline.vae, corpus)
    ids = pipeline.tokenizer(corpus.prompts, padding="max_length", max_length=LENGTH, return_tensors="pt").input_ids
    blank = pipeline.tokenizer("", padding="max_length", max_length=LENGTH, return_tensors="pt").input_ids
    parts = nn.ModuleList([pipeline.unet, pipeline.text_encoder, masker])
    optimizer, schedule = _optimizer(parts.parameters(), steps)
    started, recent = time.perf_counter(), []
    for step in range(1, steps + 1):
        chosen, blind = torch.randint(len(latents), (BATCH,)), torch.rand(BATCH, 1) < BLIND
        words = pipeline.text_encoder(torch.where(blind, blank, ids[chosen])).last_hidden_state
        places = F.relu(masker(masks[chosen].reshape(BATCH, -1, ROW))).reshape(BATCH, -1, WIDTH)
        context = torch.cat([words, places * ~blind[..., None]], 1)
        noise, t = torch.randn_like(latents[chosen]), torch.randint(1000, (BATCH,))
        noised = pipeline.scheduler.add_noise(latents[chosen], noise, t)
        loss = F.mse_loss(pipeline.unet(noised, t, encoder_hidden_states=context).sample, noise)
        _descend(loss, optimizer, schedule)
        recent.append(loss.item())
        if step % 100 == 0 or step == steps:
            log(f"denoiser {step}/{steps}: {np.mean(recent[-100:]):.4f}, {time.perf_counter() - started:.0f} s")
    return float(np.mean(recent[-100:]))


@torch.no_grad()
def _encoded(vae: nn.Module, corpus: Corpus) -> tuple[Tensor, Tensor]:
    """Latents of pictures and masks, all brought to deviation 1 by the factor that the autoencoder then declares."""
    images = torch.cat([vae.encode(_scaled(part)).latent_dist.sample() for part in corpus.images.split(64)])
    unlike, which = corpus.masks[:, 0].flatten(1).unique(dim=0, return_inverse=True)
    shapes = unlike.reshape(-1, 1, SIZE, SIZE).expand(-1, 3, -1, -1)
    masks = torch.cat([vae.encode(_scaled(part)).latent_dist.sample() for part in shapes.split(64)])
    vae.register_to_config(scaling_factor=1 / images.std().item())
    return images * vae.config.scaling_factor, masks[which] * vae.config.scaling_factor


def _scaled(pictures: Tensor) -> Tensor:
    return pictures.float() / 127.5 - 1


def _optimizer(parameters, steps: int):
    optimizer = torch.optim.AdamW(parameters, RATE)
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, max(steps, 2), pct_start=0.1)


def _descend(loss: Tensor, optimizer, schedule) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()


def _save(pipeline, masker: nn.Linear, out: Path, about: dict, log) -> None:
    from safetensors.torch import save_file

    pipeline.to(dtype=torch.float16).save_pretrained(out)
    (out / "mask_tokens").mkdir(exist_ok=True)
    save_file(masker.half().state_dict(), out / "mask_tokens" / "model.safetensors")
    (out / "about.json").write_text(json.dumps(about, indent=2) + "\n")
    files = sorted(path for path in out.rglob("*") if path.is_file())
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
    log(f"wrote {out}: {sum(path.stat().st_size for path in files) / 1e6:.2f} MB, sha256 {digest[:16]}")
