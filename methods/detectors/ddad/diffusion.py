"""DDAD's diffusion: the authors' U-Net in diffusers' terms, and reconstruction guided by a target."""

from collections.abc import Callable, Iterable
from functools import lru_cache

import torch
from diffusers import DDIMScheduler, UNet2DModel
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from bench.api import BadInput

MULTIPLIERS = {256: (1, 1, 2, 2, 4, 4), 128: (1, 1, 2, 3, 4), 64: (1, 2, 3, 4), 32: (1, 2, 3, 4)}  # px -> widths
LEVELS = 1000  # of noise


def unet(config, side: int) -> UNet2DModel:
    """The network for images of `side` px, by `width`, `multipliers`, ... of a `ddad.Config`.

    Raises:
        BadInput: for a side that has no layout or cannot be halved as often as it has levels.
    """
    channels = tuple(config.width * m for m in config.multipliers or _multipliers(side))
    sides = [side / 2**level for level in range(len(channels))]
    if sides[-1] % 1:
        raise BadInput(f"ddad cannot halve {side} px {len(channels) - 1} times: set ddad.resolution or multipliers.")
    net = UNet2DModel(
        sample_size=side,
        block_out_channels=channels,
        layers_per_block=config.layers,
        down_block_types=["AttnDownBlock2D" if s in config.attended else "ResnetDownsampleBlock2D" for s in sides],
        up_block_types=["AttnUpBlock2D" if s in config.attended else "ResnetUpsampleBlock2D" for s in sides[::-1]],
        downsample_type="resnet",
        upsample_type="resnet",
        flip_sin_to_cos=False,  # sine first
        attention_head_dim=None,
        norm_num_groups=config.groups,
        dropout=config.dropout,
    )
    _as_the_authors(net, config.heads)
    return net.to(memory_format=torch.channels_last)


def _multipliers(side: int) -> tuple[int, ...]:
    if side not in MULTIPLIERS:
        raise BadInput(f"ddad has no layout for {side} px: set ddad.resolution to one of {sorted(MULTIPLIERS)}.")
    return MULTIPLIERS[side]


def _as_the_authors(net: UNet2DModel, heads: int) -> None:
    """The same number of heads at every level, and zeros in the last layer of each residual branch and of the whole."""
    last = [net.conv_out]
    for part in net.modules():
        if isinstance(part, Attention):
            part.heads, part.scale = heads, (part.inner_dim / heads) ** -0.5
            last.append(part.to_out[0])
        elif isinstance(part, ResnetBlock2D):
            last.append(part.conv2)
    for layer in last:
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)


class Guided:
    """R(x, y; w): noise x, then remove the noise in `start / skip` DDIM steps, each pulled towards y by w.

    With f the estimate of the clean image that a step makes by itself, the guided one is f + w (1 - ᾱ) (y - f).
    """

    def __init__(self, start: int, skip: int, eta: float, one_step_more: bool = False):
        self.scheduler = DDIMScheduler(LEVELS, 1e-4, 0.02, "linear", clip_sample=False)
        self.scheduler.set_timesteps(LEVELS // skip)
        self.steps = self.scheduler.timesteps[-start // skip :].tolist()  # start - skip, ..., skip, 0
        self.start, self.eta = self.steps[0] + (skip if one_step_more else 0), eta
        self.draws = 1 + len(self.steps)  # of noise: one to begin with, one per step

    def noised(self, clean: Tensor, noise: Tensor, level: Tensor | int) -> Tensor:
        """√ᾱ clean + √(1 - ᾱ) noise at `level`, one for all or one each (B,)."""
        levels = torch.as_tensor(level, device=clean.device).expand(len(clean))
        return self.scheduler.add_noise(clean, noise, levels)

    def __call__(
        self,
        noise_in: Callable[[Tensor, int], Tensor],
        start: Tensor,
        target: Tensor,
        w: float,
        noise: Iterable[Tensor],
    ) -> Tensor:
        """Return R(start, target; w), not clipped; `noise` holds `draws` tensors that broadcast to `start`."""
        first, *others = noise
        x = self.noised(start, first, self.start)
        for level, fresh in zip(self.steps, others, strict=True):
            left = self.scheduler.alphas_cumprod[level].item()  # ᾱ
            found = noise_in(x, level)
            noisy_target = left**0.5 * target + (1 - left) ** 0.5 * found
            found = found - w * (1 - left) ** 0.5 * (noisy_target - x)
            x = self.scheduler.step(found, level, x, eta=self.eta, variance_noise=fresh).prev_sample
        return x


@lru_cache(maxsize=2)
def trajectory_noise(seed: int, shape: tuple[int, ...]) -> Tensor:
    """Standard normal numbers on the CPU, decided by `seed` and `shape` alone."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
