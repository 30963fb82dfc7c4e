"""The second stage: from noise to latents, given the words that name a product and the mask of its item."""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pretraining.prior.corpus import Corpus, scaled
from pretraining.prior.model import ANY, BEFORE, FACES, LENGTH, ROW, SIZE, TEMPLATE, WIDTH, WORDS, Namer, Parts, name

BATCH, RATE = 16, 2e-3
BLIND, GENERIC = 0.1, 0.05  # shares of pictures without name and mask, for guidance, and named `product`
SPREAD = 0.2  # deviation of noise on names, so that nearby words mean the same


def train_denoiser(made: Parts, corpus: Corpus, steps: int, log) -> tuple[nn.Linear, float]:
    """Learn to name the noise in encoded pictures. A product is named by what `Namer` sees in another picture of it.

    Returns the layer of mask tokens, and the mean of the last 100 losses.
    """
    latents, masks = _encoded(made.vae, corpus)
    reader, namer, masker = Reader(made), Namer(), nn.Linear(ROW, FACES)
    parts = nn.ModuleList([made.unet, reader.encoder, masker, namer])
    optimizer = torch.optim.AdamW(parts.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, max(steps, 2), pct_start=0.1)
    started, recent = time.perf_counter(), []
    for step in range(1, steps + 1):
        chosen, blind = torch.randint(len(latents), (BATCH,)), torch.rand(BATCH, 1, 1) < BLIND
        names = namer(latents[_other_view(chosen, corpus.views)])
        words = reader.read(names + SPREAD * torch.randn_like(names), generic=torch.rand(BATCH, 1, 1) < GENERIC)
        places = F.relu(masker(masks[chosen].reshape(BATCH, -1, ROW))).reshape(BATCH, -1, WIDTH)
        context = torch.cat([torch.where(blind, reader.blank(), words), places * ~blind], 1)
        noise, t = torch.randn_like(latents[chosen]), torch.randint(1000, (BATCH,))
        noised = made.scheduler.add_noise(latents[chosen], noise, t)
        target = made.scheduler.get_velocity(latents[chosen], noise, t)
        loss = F.mse_loss(made.unet(noised, t, encoder_hidden_states=context).sample, target)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parts.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        recent.append(loss.item())
        if step % 500 == 0 or step == steps:
            log(f"denoiser {step}/{steps}: {np.mean(recent[-500:]):.4f}, {time.perf_counter() - started:.0f} s")
    reader.learn_names(namer, latents, corpus.views)
    return masker, float(np.mean(recent[-100:]))


class Reader:
    """The text encoder, asked with vectors in the place of the name."""

    def __init__(self, made: Parts):
        self.encoder, self.tokenizer = made.text_encoder, made.tokenizer
        self.template, self.empty = self._tokens(TEMPLATE), self._tokens("")
        self.any = self.tokenizer.convert_tokens_to_ids(ANY)

    def read(self, names: Tensor, generic: Tensor) -> Tensor:
        """Context (B, 12, 64) of names (B, 4, 64), or of "product" where `generic` (B, 1, 1)."""
        embeddings = self.encoder.get_input_embeddings()
        names = torch.where(generic, embeddings.weight[self.any], names)

        def swap(_module, _inputs, embedded: Tensor) -> Tensor:
            return torch.cat([embedded[:, :BEFORE], names, embedded[:, BEFORE + WORDS :]], 1)

        handle = embeddings.register_forward_hook(swap)
        try:
            return self.encoder(self.template.expand(len(names), -1)).last_hidden_state
        finally:
            handle.remove()

    def blank(self) -> Tensor:
        """Context (1, 12, 64) of the empty prompt."""
        return self.encoder(self.empty).last_hidden_state

    @torch.no_grad()
    def learn_names(self, namer: Namer, latents: Tensor, views: int) -> None:
        """Put what names the first products of the corpus into the vocabulary."""
        vocabulary, weight = self.tokenizer.get_vocab(), self.encoder.get_input_embeddings().weight
        for product, pictures in enumerate(latents.split(views)):
            if name(product)[0] not in vocabulary:
                return
            for word, vector in zip(name(product), namer(pictures).mean(0), strict=True):
                weight[vocabulary[word]] = vector

    def _tokens(self, text: str) -> Tensor:
        return self.tokenizer(text, padding="max_length", max_length=LENGTH, return_tensors="pt").input_ids


def _other_view(chosen: Tensor, views: int) -> Tensor:
    """Another picture of the product of each."""
    further = torch.randint(1, max(views, 2), chosen.shape)
    return chosen // views * views + (chosen + further) % views


@torch.no_grad()
def _encoded(vae: nn.Module, corpus: Corpus) -> tuple[Tensor, Tensor]:
    """Latents of pictures and masks, all brought to deviation 1 by the factor that the autoencoder then declares."""
    images = torch.cat([vae.encode(scaled(part)).latent for part in corpus.images.split(64)])
    unlike, which = corpus.masks[:, 0].flatten(1).unique(dim=0, return_inverse=True)
    shapes = unlike.reshape(-1, 1, SIZE, SIZE).expand(-1, 3, -1, -1)
    masks = torch.cat([vae.encode(scaled(part)).latent for part in shapes.split(64)])
    vae.register_to_config(scaling_factor=1 / images.std().item())
    return images * vae.config.scaling_factor, masks[which] * vae.config.scaling_factor
