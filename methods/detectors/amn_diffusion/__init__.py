"""AMN diffusion: an image is made anew by latent diffusion under a condition that cannot see defects; features compare.

Li et al., One-for-More: Continual Diffusion Model for Anomaly Detection, arXiv:2502.19848, in the version of the
authors' code. The condition of the anomaly-masked network is added to what the U-Net's first convolution makes. A step
of the stream goes on training the U-Net's weights (not its norms, biases and time layers) and that network. Nobody
tells classes: a patch that the paper takes from another image of the class comes from another one of the batch.
Images reach the autoencoder in -1..1, the range that it was trained in.

`--set amn_diffusion.as_released=true` (or that of One-for-More) does as the released code:
- autoencoder and masked network get images normalised as for ImageNet, in about -2.1..2.6, and decoded ones are
  compared there (`imagenet_range`);
- who records the inputs of layers (gradient projection) gets them under corrupted conditions (`corrupted_hints`): the
  images looked at are all of those that training corrupts. Tests, and here those records, see images as they are.
Not taken over: guidance at 9, which does nothing, for both branches see the same; the image that the latents of a
corrupted one are of, another of its class, which nobody tells here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.api import BadInput, Detector, Prediction, Setup, later, smooth, trainable
from methods._latent_diffusion import LatentDiffusion, load
from methods._range import Range
from methods.detectors.amn_diffusion.corruption import corrupted
from methods.detectors.amn_diffusion.masked import AnomalyMasked

TRAITS = ("gradient", "masked_condition")
BACKBONE = "resnet50"
AS_RELEASED = {"imagenet_range": True, "corrupted_hints": True}
FROZEN = ("time_embedding", "time_emb_proj", "norm", "bias")  # parts of names of the U-Net's parameters
START = 999  # time that a test image's latents are noised to


@dataclass(frozen=True)
class Config:
    model: str = "stable-diffusion-v1-5/stable-diffusion-v1-5"  # id of the hub, folder in the layout of diffusers
    epochs: int = 500
    batch_size: int = 12
    lr: float = 1e-5  # AdamW, weight decay 0.01
    stem: tuple[int, ...] = (16, 16, 32, 32, 96, 96, 256)  # channels of the stem's convolutions but the last
    layers: int = 8  # of the masked transformer
    heads: int = 8  # of its attention
    hidden: int = 1025  # width of its feed-forward layers, as released
    neighbourhood: int = 7  # places, odd: side of the square around itself that a place does not see
    dropout: float = 0.1  # in the masked transformer
    corrupted: float = 0.5  # share of training images with pasted patches; 0.67 for VisA
    other: bool = False  # patches come from another image of the batch, as for VisA, not from the image itself
    steps: int = 10  # of DDIM
    strides: tuple[int, ...] = (4, 8, 16)  # layer1 to layer3 of a ResNet; 2, 8, 32 for VisA
    sigma: float = 5.0  # px, smoothing of the map
    checkpointing: bool = False  # of the U-Net's activations: less memory, more time
    imagenet_range: bool = later(False)  # as released: the networks see images normalised as for ImageNet
    corrupted_hints: bool = later(False)  # as released: what gradient projection looks at are corrupted conditions

    @classmethod
    def tiny(cls) -> "Config":
        return cls(
            model="procedural",
            epochs=30,
            batch_size=8,
            lr=5e-4,
            stem=(8, 8, 16, 16, 16, 16, 32),
            layers=2,
            heads=4,
            hidden=64,
            neighbourhood=3,
            dropout=0.0,
            strides=(4, 8),
            sigma=1.5,
        )

    def __post_init__(self):
        if self.neighbourhood % 2 == 0:
            raise BadInput(f"amn_diffusion.neighbourhood={self.neighbourhood} has no centre: give an odd number.")


def build(config: Config, setup: Setup) -> Detector:
    return AmnDiffusion(config, setup)


class AmnDiffusion(Detector):
    """Autoencoder (frozen), U-Net, anomaly-masked network and a feature network (frozen)."""

    def __init__(self, config: Config, setup: Setup):
        super().__init__()
        self.config, self.epochs, self.batch_size = config, config.epochs, config.batch_size
        self.model = load(config.model, "amn_diffusion.model", train_unet=True, checkpointing=config.checkpointing)
        for part in (self.model.unet, self.model.vae.decoder):  # predictions are a tenth faster so on a CPU
            part.to(memory_format=torch.channels_last)
        self.register_buffer("context", empty_prompt(self.model))  # (1, tokens, width)
        _hold(self.model.unet)
        side = _side(setup.image_size, self.model)
        width = self.model.unet.config.block_out_channels[0]
        self.masked = AnomalyMasked(
            config.stem, width, self.model.factor, side, config.layers, config.heads, config.hidden,
            config.neighbourhood, config.dropout,
        )  # fmt: skip
        for name, value in Range(imagenet=True).named_buffers():
            self.register_buffer(name, value, persistent=False)  # shift and scale
        self.condition: Tensor | None = None
        self.model.unet.conv_in.register_forward_hook(self._add_condition)
        self.features = setup.features(*config.strides)
        draws = torch.randn(2, 1, self.model.channels, side, side, generator=torch.Generator().manual_seed(setup.seed))
        self.register_buffer("draws", draws)  # of every test image's posterior and noise

    def optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(trainable(self), lr=self.config.lr, fused=True)

    def _add_condition(self, _module: nn.Module, _inputs, made: Tensor) -> Tensor:
        return made if self.condition is None else made + self.condition.to(made.dtype)

    @contextmanager
    def conditioned(self, condition: Tensor) -> Iterator[None]:
        """Within, the U-Net runs under `condition` (B, width, h, w): its trunk and its first skip connection."""
        self.condition = condition
        try:
            yield
        finally:
            self.condition = None

    def _predict(self, noised: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        with self.conditioned(condition):
            return self.model.predict(noised, t, self.context.expand(len(noised), -1, -1))

    def _noised(self, latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        return self.model.scheduler.add_noise(latents, noise, t)

    def loss(self, image: Tensor) -> Tensor:
        """Noise prediction, and the masked network must restore from a corrupted image what the stem sees in it."""
        latents = self.model.encode(self._ranged(image), sample=True)
        noise = torch.randn_like(latents)
        t = torch.randint(self.model.timesteps, (len(image),)).to(image.device)
        hint = corrupted(image, self.config.corrupted, self.config.other)
        condition = self.masked(2 * self._ranged(hint) - 1)
        predicted = self._predict(self._noised(latents, noise, t), t, condition)
        return F.mse_loss(predicted, self.model.target(latents, noise, t)) + F.mse_loss(
            condition, self.masked.stem(2 * self._ranged(image) - 1)
        )

    def response(self, image: Tensor) -> list[Tensor]:
        """Return the condition, and the noise predicted half way under it, each (B, C, h, w)."""
        condition = self.masked(2 * self._ranged(image) - 1)
        half = torch.tensor(self.model.timesteps // 2, device=image.device)
        noised = self._noised(self._latents(image), self.draws[1], half[None])
        return [condition, self._predict(noised, half, condition)]

    def _latents(self, image: Tensor) -> Tensor:
        mean, deviation = self.model.posterior(self._ranged(image))
        return mean + deviation * self.draws[0]

    def _ranged(self, image: Tensor) -> Tensor:
        """Images as the networks take them: in 0..1, or normalised as for ImageNet where -1..1 would be."""
        return ((image - self.shift) / self.scale + 1) / 2 if self.config.imagenet_range else image

    def _decoded(self, latents: Tensor) -> Tensor:
        """Images (B, 3, H, W) of latents, in 0..1; in ImageNet's range values beyond it are kept."""
        if not self.config.imagenet_range:
            return self.model.decode(latents)
        return (2 * self.model.unclamped(latents) - 1) * self.scale + self.shift

    def _remade(self, hint: Tensor, latents: Tensor) -> Tensor:
        """Latents from nearly pure noise by DDIM, under the condition of `hint`."""
        condition = self.masked(2 * self._ranged(hint) - 1)
        made = self._noised(latents, self.draws[1], torch.tensor([START], device=hint.device))
        for t in self.model.grid(self.config.steps):
            made = self.model.scheduler.step(self._predict(made, t, condition), t, made, eta=0.0).prev_sample
        return made

    def replay_forward(self, image: Tensor) -> None:
        """Go the whole way of a prediction, and through the stem as the loss does."""
        hint = corrupted(image, 1.0, self.config.other) if self.config.corrupted_hints else image
        self._remade(hint, self._latents(image))

    def reconstruct(self, image: Tensor) -> Tensor:
        return self._decoded(self._remade(image, self._latents(image))).clamp(0, 1)

    def predict(self, image: Tensor) -> Prediction:
        latents = self._latents(image)
        remade, kept = (self._decoded(each) for each in (self._remade(image, latents), latents))
        distances = [
            F.interpolate((a - b).norm(dim=1, keepdim=True), image.shape[-2:], mode="bilinear", align_corners=True)
            for a, b in zip(self.features(remade).values(), self.features(kept).values(), strict=True)
        ]
        anomaly_map = smooth(sum(distances), self.config.sigma)
        return Prediction(anomaly_map.amax((1, 2, 3)), anomaly_map)


def empty_prompt(model: LatentDiffusion) -> Tensor:
    """The context of the empty prompt; the text encoder, not needed again, is let go."""
    with torch.no_grad():
        context = model.context(model.tokens([""]))
    model.text_encoder = None
    return context


def _hold(unet: nn.Module) -> None:
    for name, parameter in unet.named_parameters():
        parameter.requires_grad_(not any(part in name for part in FROZEN))


def _side(image_size: int, model: LatentDiffusion) -> int:
    deepest = 2 ** (len(model.unet.config.block_out_channels) - 1) * model.factor
    if image_size % deepest:
        raise BadInput(
            f"amn_diffusion.model takes images of a multiple of {deepest} px, not of {image_size}: give --image-size."
        )
    return image_size // model.factor
