"""A text-to-image latent diffusion model in its parts: encode, read, predict the noise, sample, decode.

Rombach et al., High-Resolution Image Synthesis with Latent Diffusion Models, arXiv:2112.10752. Images are (B, 3, H, W)
in 0..1, latents (B, C, h, w) float32 of deviation about 1, contexts (B, tokens, width) float32.
"""

from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from diffusers import AutoencoderDC, AutoencoderKL, DDIMScheduler, DiffusionPipeline, UNet2DConditionModel
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertModel
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoTokenizer, CLIPTextModel

from bench.api import PROCEDURAL_PRIOR, BadInput, freeze

# Folder of each part: as in Stable Diffusion, and as in CompVis/ldm-text2im-large-256 where that has another.
NAMES = {
    "vae": ("vae", "vqvae"),
    "unet": ("unet",),
    "text_encoder": ("text_encoder", "bert"),
    "tokenizer": ("tokenizer",),
    "scheduler": ("scheduler",),
}
KINDS = {
    "vae": AutoencoderKL,
    "vqvae": AutoencoderKL,
    "unet": UNet2DConditionModel,
    "text_encoder": CLIPTextModel,
    "bert": LDMBertModel,
    "tokenizer": AutoTokenizer,
    "scheduler": DDIMScheduler,
}


class LatentDiffusion(nn.Module):
    """The parts of a model, frozen but for the UNet where `train_unet` says so.

    `size` is the image size in px that the model was made for, `length` its number of text tokens, `width` the numbers
    in each. `masker` is the linear layer of mask tokens that the prior was trained with, None where it had none.
    """

    def __init__(self, vae, unet, text_encoder, tokenizer, scheduler, masker=None, train_unet: bool = False):
        super().__init__()
        self.vae, self.text_encoder, self.tokenizer = freeze(vae), freeze(text_encoder), tokenizer
        self.unet = unet.requires_grad_(True) if train_unet else freeze(unet)
        self.masker = masker and freeze(masker)
        # The grid of the CompVis samplers, 981, 961, ..., 1 at 50 steps; one that ends in noise alone starts there.
        spacing = "trailing" if scheduler.config.get("rescale_betas_zero_snr") else "leading"
        self.scheduler = DDIMScheduler.from_config(
            scheduler.config, clip_sample=False, set_alpha_to_one=False, steps_offset=1, timestep_spacing=spacing
        )
        self.length, self.width = text_encoder.config.max_position_embeddings, unet.config.cross_attention_dim
        self.factor = _factor(vae)
        self.size = unet.config.sample_size * self.factor
        self.channels = unet.config.in_channels
        self.timesteps = scheduler.config.num_train_timesteps

    @property
    def device(self) -> torch.device:
        return self.unet.device

    def posterior(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of the latents that the encoder leaves possible; it may leave no choice."""
        found = self.vae.encode((2 * image - 1).to(self.vae.dtype))
        certain = isinstance(self.vae, AutoencoderDC)
        mean = found.latent if certain else found.latent_dist.mean
        deviation = torch.zeros_like(mean) if certain else found.latent_dist.std
        return tuple(part.float() * self.vae.config.scaling_factor for part in (mean, deviation))

    def encode(self, image: Tensor, *, sample: bool, generator: torch.Generator | None = None) -> Tensor:
        """Latents: a draw from the posterior (`generator` of the CPU, or the global one), or its mean."""
        mean, deviation = self.posterior(image)
        return draw(mean, deviation, generator) if sample else mean

    def decode(self, latents: Tensor) -> Tensor:
        return self.unclamped(latents).clamp(0, 1)

    def unclamped(self, latents: Tensor) -> Tensor:
        """Images as the decoder makes them: what they stand for lies in 0..1, values may not."""
        image = self.vae.decode((latents / self.vae.config.scaling_factor).to(self.vae.dtype)).sample
        return image.float() / 2 + 0.5

    def tokens(self, prompts: Sequence[str]) -> Tensor:
        """Token numbers (B, length), padded and cut; the tokenizer's own limit is not to be relied on."""
        made = self.tokenizer(
            list(prompts), padding="max_length", max_length=self.length, truncation=True, return_tensors="pt"
        )
        return made.input_ids.to(self.device)

    def context(self, tokens: Tensor) -> Tensor:
        """What the text encoder makes of token numbers (B, length); `tokens([""])` is the empty prompt."""
        return self.text_encoder(input_ids=tokens)[0].float()

    @contextmanager
    def pseudo_words(self, vectors: Tensor, places: Tensor):
        """Within, `context` reads row `places` (B, length) of `vectors` (K, width) wherever that is not -1.

        They stand in for token embeddings, before position embedding and transformer (textual inversion, Gal et al.,
        arXiv:2208.01618). Gradients reach `vectors`.
        """

        def swap(_module, _inputs, embedded: Tensor) -> Tensor:
            return torch.where(places[..., None] >= 0, vectors.to(embedded.dtype)[places.clamp_min(0)], embedded)

        handle = self.text_encoder.get_input_embeddings().register_forward_hook(swap)
        try:
            yield
        finally:
            handle.remove()

    def target(self, clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """What the UNet was trained to predict: the noise, or the velocity (Salimans and Ho, arXiv:2202.00512)."""
        if self.scheduler.config.prediction_type == "epsilon":
            return noise
        return self.scheduler.get_velocity(clean, noise, t)

    def predict(self, noised: Tensor, t: Tensor, context: Tensor) -> Tensor:
        """The UNet's estimate of the target in latents noised to time `t` (B,) or ()."""
        dtype = self.unet.dtype
        return self.unet(noised.to(dtype), t, encoder_hidden_states=context.to(dtype)).sample.float()

    def grid(self, steps: int) -> Tensor:
        """Times (steps,) that DDIM goes through, latest first."""
        self.scheduler.set_timesteps(steps, device=self.device)
        return self.scheduler.timesteps

    @torch.no_grad()
    def sample(self, context: Tensor, blank: Tensor, *, steps: int, guidance: float, generator) -> Tensor:
        """Latents by DDIM (Song et al., arXiv:2010.02502; eta 0) under classifier-free guidance (arXiv:2207.12598).

        `blank` (1, tokens or fewer, width) is the unconditional context, padded on the left with zero vectors to the
        length of `context`, which take part in the attention. At guidance 1 it is not needed and not used. `generator`
        is of the CPU, so that every device draws alike.
        """
        side = self.size // self.factor
        shape = (len(context), self.channels, side, side)
        latents = torch.randn(shape, generator=generator).to(self.device)
        absent = blank.new_zeros(1, context.shape[1] - blank.shape[1], self.width)
        blank = torch.cat([absent, blank], 1).expand(len(context), -1, -1)
        for t in self.grid(steps):
            if guidance == 1:
                found = self.predict(latents, t, context)
            else:
                without, given = self.predict(latents.repeat(2, 1, 1, 1), t, torch.cat([blank, context])).chunk(2)
                found = without + guidance * (given - without)
            latents = self.scheduler.step(found, t, latents, eta=0.0).prev_sample
        return latents


def _factor(vae) -> int:
    """Pixels (along a side) per place of the latents."""
    config = vae.config
    widths = config.encoder_block_out_channels if isinstance(vae, AutoencoderDC) else config.block_out_channels
    return 2 ** (len(widths) - 1)


def draw(mean: Tensor, deviation: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """A normal draw made on the CPU, the same whatever the device."""
    return mean + deviation * torch.randn(mean.shape, generator=generator).to(mean)


def load(
    source: str,
    option: str,
    *,
    train_unet: bool = False,
    dtype: torch.dtype = torch.float32,
    checkpointing: bool = False,
    slicing: bool = False,
) -> LatentDiffusion:
    """Load a model: `procedural` (the project's own, 64 px), a folder in the layout of diffusers, or an id of the hub.

    `option` is what the user sets it with, for the message. `checkpointing` and `slicing` spend time to save memory.
    Raises BadInput if a part is not at hand: weights are never random.
    """
    folder = _folder(source, option)
    found = {part: _name(folder, names, source, option) for part, names in NAMES.items()}
    made = {part: _part(folder, name, dtype, source, option) for part, name in found.items()}
    if checkpointing:
        made["unet"].enable_gradient_checkpointing()
    if slicing:
        made["unet"].set_attention_slice("auto")
    return LatentDiffusion(**made, masker=_masker(folder), train_unet=train_unet)


def _folder(source: str, option: str) -> Path:
    folder = PROCEDURAL_PRIOR if source == "procedural" else Path(source)
    if folder.is_dir():
        return folder
    try:
        return Path(DiffusionPipeline.download(source, safety_checker=None))
    except (OSError, ValueError) as error:  # what the hub raises without network, and for what is no id
        fetch = f"from diffusers import DiffusionPipeline; DiffusionPipeline.download('{source}')"
        raise BadInput(
            f"{option}={source}: no such folder, nor weights of that name in the hub's local cache; fetch them once "
            f'with network by `python -c "{fetch}"`, or give a folder in the layout of diffusers.'
        ) from error


def _name(folder: Path, names: Sequence[str], source: str, option: str) -> str:
    name = next((name for name in names if (folder / name).is_dir()), None)
    if name is None:
        raise BadInput(
            f"{option}={source}: the model lacks its folder {' or '.join(names)}; save all of "
            f"{', '.join(NAMES)} there with `save_pretrained`."
        )
    return name


def _part(folder: Path, name: str, dtype: torch.dtype, source: str, option: str):
    own = {} if name in ("tokenizer", "scheduler") else {"torch_dtype": dtype}
    try:
        kind = KINDS[name]
        if kind is AutoencoderKL and kind.load_config(folder / name)["_class_name"] == AutoencoderDC.__name__:
            kind = AutoencoderDC
        return kind.from_pretrained(folder / name, **own)
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(
            f"{option}={source}: its part {name} cannot be loaded ({error}); save it there anew with `save_pretrained`."
        ) from error


def _masker(folder: Path) -> nn.Linear | None:
    file = folder / "mask_tokens" / "model.safetensors"
    if not file.is_file():
        return None
    state = {name: value.float() for name, value in load_file(file).items()}
    layer = nn.Linear(*reversed(state["weight"].shape))
    layer.load_state_dict(state)
    return layer
