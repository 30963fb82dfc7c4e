"""What is kept of a class: pseudo-words that say what it is, mask tokens that say where, and some masks."""

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.io import decode_jpeg, encode_jpeg

from bench.api import BadInput
from methods._latent_diffusion import LatentDiffusion, draw
from methods.replaycad.jitter import augmented, jittered
from methods.replaycad.prompts import LISTS, placed, start

LATEST = 3  # power of t that the times are drawn in proportion to where noisy ones are preferred


class MaskTokens(nn.Module):
    """An encoded mask (B, C, h, w) to tokens (B, N, width): rows of `row` numbers, each to `features` of one layer."""

    def __init__(self, row: int, features: int, width: int):
        super().__init__()
        self.linear, self.width = nn.Linear(row, features), width

    def forward(self, latents: Tensor) -> Tensor:
        rows = latents.flatten(1).unflatten(1, (-1, self.linear.in_features))
        return F.relu(self.linear(rows)).flatten(1).unflatten(1, (-1, self.width))


class ClassCode(nn.Module):
    """The parameters that a class is learned into: `words` (K, width), and `where`, None for a class without masks."""

    def __init__(self, words: Tensor, where: MaskTokens | None, masks: list[Tensor]):
        super().__init__()
        self.words, self.where = nn.Parameter(words), where
        self.masks = masks  # 1-bit PNG files, as bytes

    @classmethod
    def new(cls, model: LatentDiffusion, config) -> "ClassCode":
        """The start of learning: a word repeated, and the prior's own mask layer where it has one.

        Raises:
            BadInput: if the mask layer does not fit the model's latents and tokens.
        """
        words = start(model, config.first_word, config.words).clone()
        if config.masks_from == "none":
            return cls(words, None, [])
        numbers = model.channels * (model.size // model.factor) ** 2
        row, features = config.row, config.features
        if numbers % row or numbers // row * features % model.width:
            raise BadInput(
                f"replaycad.row={row}, replaycad.features={features}: an encoded mask has {numbers} numbers, and rows "
                f"of {row} with {features} features each do not make whole tokens of {model.width}."
            )
        where = MaskTokens(row, features, model.width).to(model.device)
        if model.masker is not None and model.masker.weight.shape == where.linear.weight.shape:
            where.linear.load_state_dict(model.masker.state_dict())
        return cls(words, where, [])

    def context(self, model: LatentDiffusion, tokens: Tensor, places: Tensor, which: Tensor, masks) -> Tensor:
        """Context (B, tokens, width) of prompts `which` (B,) of `tokens` (T, length), and of encoded masks (B, ...)."""
        asked, back = which.unique(return_inverse=True)
        with model.pseudo_words(self.words, places[asked]):
            text = model.context(tokens[asked])[back]
        return text if self.where is None else torch.cat([text, self.where(masks)], 1)

    def state(self) -> dict:
        """All that is kept, as tensors."""
        return {name: value.detach().cpu() for name, value in self.state_dict().items()} | {"masks": self.masks}

    @classmethod
    def of(cls, state: dict, width: int) -> "ClassCode":
        """The code that `state` was made of."""
        weight, where = state.get("where.linear.weight"), None
        if weight is not None:
            where = MaskTokens(*reversed(weight.shape), width)
        code = cls(torch.empty_like(state["words"]), where, [mask.cpu() for mask in state["masks"]])
        code.load_state_dict({name: value for name, value in state.items() if name != "masks"})
        return code.requires_grad_(False)


def learn(model: LatentDiffusion, config, images: Tensor, masks: Tensor, note=lambda loss: None) -> ClassCode:
    """Learn a class from images (n, 3, H, W) in 0..1 and masks (n, H, W) bool: noise prediction, unweighted.

    `note` is told the loss of every batch. The prior stays as it is.
    """
    code = ClassCode.new(model, config).to(model.device)
    tokens, places = placed(model, LISTS[config.template_list][: config.templates], config.words)
    groups = [{"params": [code.words], "lr": config.batch_size * config.rate * config.word_rate}]
    if code.where is not None:
        groups.append({"params": code.where.parameters(), "lr": config.batch_size * config.rate})
    optimizer = torch.optim.AdamW(groups)
    latents = Latents(model, images, masks, config.augment)
    for _ in range(config.steps):
        clean, where = latents.draw(torch.randint(len(images), (config.batch_size,)))
        t, noise = _times(model.timesteps, len(clean), config.noisy_times).to(model.device), torch.randn(clean.shape)
        noise = noise.to(model.device)
        which = torch.randint(len(tokens), (len(clean),)).to(model.device)
        context = code.context(model, tokens, places, which, where)
        made = model.predict(model.scheduler.add_noise(clean, noise, t), t, context)
        loss = F.mse_loss(made, model.target(clean, noise, t))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        note(loss.item())
    if code.where is not None:
        kept = torch.randperm(len(masks))[: config.masks]
        code.masks = [_packed(masks[i]) for i in kept.tolist()]
    return code.requires_grad_(False)


class Latents:
    """Draws of encoded images and masks; encoded once where they are never changed."""

    def __init__(self, model: LatentDiffusion, images: Tensor, masks: Tensor, augment: str):
        self.model, self.images, self.masks, self.augment = model, images, masks.float()[:, None], augment
        self.known = self._encode(images, self.masks) if augment == "none" else None

    @torch.no_grad()
    def draw(self, which: Tensor) -> tuple[Tensor, Tensor]:
        """Latents of the images and masks at `which` (B,)."""
        if self.known is not None:
            found = [part[which] for part in self.known]
        else:
            pairs = [augmented(self.images[i], self.masks[i], self.augment) for i in which.tolist()]
            found = self._encode(*(torch.stack(side) for side in zip(*pairs, strict=True)))
        image, image_deviation, mask, mask_deviation = (part.to(self.model.device) for part in found)
        return draw(image, image_deviation), draw(mask, mask_deviation)

    @torch.no_grad()
    def _encode(self, images: Tensor, masks: Tensor) -> list[Tensor]:
        """Means and deviations of images, then of masks, on the CPU."""
        both = [images, masks.expand(-1, 3, -1, -1)]
        parts = [[self.model.posterior(fitted(x, self.model)) for x in pictures.split(16)] for pictures in both]
        return [torch.cat(part).cpu() for encoded in parts for part in zip(*encoded, strict=True)]


@torch.no_grad()
def recall(model: LatentDiffusion, config, code: ClassCode, size: int, seed: int) -> Tensor:
    """Make `config.replays` images (n, 3, size, size) uint8 of a class; the same for the same seed."""
    code, generator = code.to(model.device), torch.Generator().manual_seed(seed)
    tokens, places = placed(model, (config.prompt,), len(code.words))
    blank, made = model.context(model.tokens([""])), []
    stored = [_unpacked(mask) for mask in code.masks]
    for start_at in range(0, config.replays, config.batch_size):
        count = min(config.batch_size, config.replays - start_at)
        where = None
        if code.where is not None:
            chosen = torch.randint(len(stored), (count,), generator=generator).tolist()
            masks = torch.stack([jittered(stored[i], config.jitter, generator) for i in chosen])
            where = model.encode(fitted(masks.expand(-1, 3, -1, -1), model), sample=True, generator=generator)
        which = torch.zeros(count, dtype=torch.long, device=model.device)
        context = code.context(model, tokens, places, which, where)
        latents = model.sample(
            context, blank, steps=config.sampling_steps, guidance=config.guidance, generator=generator
        )
        made.append(resized(model.decode(latents), size).mul(255).round().byte().cpu())
    images = torch.cat(made)
    return torch.stack([decode_jpeg(encode_jpeg(image)) for image in images]) if config.jpeg else images


def fitted(images: Tensor, model: LatentDiffusion) -> Tensor:
    """Images on the model's device and at its size."""
    images = images.to(model.device)
    return images if images.shape[-1] == model.size else resized(images, model.size)


@torch.no_grad()
def decoded(model: LatentDiffusion, images: Tensor) -> Tensor:
    """Images (n, 3, H, W) in 0..1 as the autoencoder makes them again, at their size: the best a replay could be."""
    parts = [model.decode(model.encode(fitted(part, model), sample=False)) for part in images.split(16)]
    return resized(torch.cat(parts), images.shape[-1])


def resized(images: Tensor, size: int) -> Tensor:
    """Images (n, 3, size, size) in 0..1."""
    return F.interpolate(images, (size, size), mode="bicubic", antialias=True).clamp(0, 1)


def _times(count: int, batch: int, noisy: bool) -> Tensor:
    """Times (B,) in 0 .. count - 1, uniform or in proportion to t³."""
    if not noisy:
        return torch.randint(count, (batch,))
    return torch.multinomial(torch.arange(count, dtype=torch.double) ** LATEST, batch, replacement=True)


def _packed(mask: Tensor) -> Tensor:
    """A mask (H, W) bool as the bytes of a 1-bit PNG."""
    buffer = io.BytesIO()
    Image.fromarray(mask.cpu().numpy()).save(buffer, "PNG", optimize=True)
    return torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)


def _unpacked(png: Tensor) -> Tensor:
    """The mask (1, H, W) as floats."""
    return torch.from_numpy(np.array(Image.open(io.BytesIO(png.numpy().tobytes())), dtype=np.float32))[None]
