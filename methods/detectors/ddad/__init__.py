"""DDAD: a diffusion model, guided by the image itself, makes it again without its defects; features compare the two.

Mousakhan, Brox and Tayyub, Anomaly Detection with Conditioned Denoising Diffusion Models, arXiv:2305.15956, in the
version of the authors' last code. Each step of the stream goes on training one U-Net on noise prediction, then adapts
a feature network to pairs of reconstruction and image. Training images give the scale between pixel and feature
distance, so that each test image is judged on its own.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor
from torch.nn import functional as F

from bench.api import BadInput, Detector, Prediction, Setup, Student, smooth
from methods.detectors.ddad import adaptation, checkpoint
from methods.detectors.ddad.diffusion import Guided, trajectory_noise, unet
from methods.detectors.ddad.per_class import PER_CLASS, TUNED

TRAITS = ("gradient", "reconstruction", "conditioned_diffusion")
BACKBONE = "wide_resnet101_2.tv_in1k"


@dataclass(frozen=True)
class Config:
    """One setting for every class, because a stream is not told which class comes next, nor which one it is tested on.

    The authors set w, epochs and adaptation per class by the test set; w and adaptation here are their general advice,
    epochs the median of their MVTec table. `upstream_per_class` gives their own choice for one class.
    """

    epochs: int = 2000  # of the diffusion model
    batch_size: int = 32
    lr: float = 3e-4  # Adam
    decay: float = 0.05  # L2 within Adam's gradient: tiny, because the loss is a sum over pixels
    resolution: int = 0  # px at which it diffuses; 0: the run's image size
    width: int = 64  # channels of the first level
    multipliers: tuple[int, ...] = ()  # channels per level in widths; empty: the authors' for the resolution
    layers: int = 2  # residual blocks per level
    attended: tuple[int, ...] = (32, 16, 8)  # px of the levels with attention
    heads: int = 4  # of the attention, at every level
    groups: int = 32  # of the group norms
    dropout: float = 0.0  # within residual blocks
    levels: int = 1000  # noise levels that training draws from, of 1000; it reconstructs from the first `start`
    start: int = 250  # noise level of 1000 below which reconstruction begins: its steps are start - skip, ..., skip, 0
    skip: int = 25  # noise levels per step of the reconstruction: start / skip steps
    eta: float = 1.0  # share of fresh noise in these steps; 1 as in DDPM, 0 none
    w: float = 4.0  # guidance by the image; 0: none
    v: float = 1.0  # weight of the pixel distance; 7 for VisA
    adapt_epochs: int = 4  # of the feature network; 0 leaves it as it came
    adapt_lr: float = 1e-4  # AdamW with its usual decay
    adapt_batch: int = 16  # images, i.e. 8 pairs
    adapt_w: float = 3.0  # guidance while adapting
    adapt_hold: float = 0.1  # weight of the distillation from the network as it came; 0.01 for VisA
    held_out: int = 32  # training images kept from the adaptation for the ratio of distances, a quarter at most
    strides: tuple[int, ...] = (4, 8, 16)  # layer1 to layer3 of a ResNet
    unmapped: int = 1  # strides left out of the map: layer1 only takes part in the adaptation
    sigma: float = 4.0  # px, smoothing of the map
    ema: float = 0.0  # decay of the running mean of the weights that ends a step; 0: the last weights count
    precision: str = "auto"  # of training: bf16, fp32, or auto: bf16 on a GPU; predictions are made in fp32
    compile: bool = False  # the U-Net, with torch.compile
    checkpoint: str = ""  # U-Net saved by the authors' code to start from; with epochs=1 and lr=0 it stays as it is
    norm: str = "train"  # ratio of distances: by training images, or as released by the test "batch", which is refused
    noised_one_step_more: bool = False  # as released: the image gets one step more noise than the U-Net is told
    pairs_at_random: bool = False  # as released: right only where a step brings a single class
    upstream_per_class: str = ""  # class whose options to take from the authors' table, tuned on its test set

    @classmethod
    def tiny(cls) -> "Config":
        return cls(
            epochs=18,
            batch_size=8,
            lr=2e-3,
            resolution=32,
            width=16,
            multipliers=(1, 1),
            layers=1,
            heads=2,
            groups=8,
            levels=50,  # little noise is learned to be removed in a few hundred steps, the paper's start is not
            start=50,
            skip=25,
            v=7.0,
            adapt_epochs=1,
            held_out=12,
            strides=(4, 8),
            unmapped=0,
            sigma=1.5,
        )

    def __post_init__(self):
        _one_of("norm", self.norm, ("train", "batch"))
        _one_of("precision", self.precision, ("auto", "bf16", "fp32"))
        if self.skip < 1 or 1000 % self.skip or self.start % self.skip or not 0 < self.start <= 1000:
            raise BadInput(
                f"ddad.start={self.start} with ddad.skip={self.skip}: skip must divide start and 1000, e.g. 250 and 25."
            )
        if self.upstream_per_class:
            self._take_from_table()

    def _take_from_table(self):
        _one_of("upstream_per_class", self.upstream_per_class, tuple(PER_CLASS))
        row = PER_CLASS[self.upstream_per_class]
        own = tuple(getattr(self, name) for name in TUNED)
        if own not in (row, tuple(field.default for field in fields(Config) if field.name in TUNED)):
            raise BadInput(
                f"ddad.upstream_per_class={self.upstream_per_class} sets {', '.join(TUNED)} itself: "
                "leave these as they are at --size paper, or set them without it."
            )
        for name, value in zip(TUNED, row, strict=True):
            object.__setattr__(self, name, value)


def _one_of(option: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise BadInput(f"ddad.{option}={value!r} is none of {', '.join(known)}.")


def build(config: Config, setup: Setup) -> Detector:
    return Ddad(config, setup)


class Ddad(Detector):
    """U-Net, a feature network as it came (`frozen`) and the one adapted from it (`features`), and the ratio.

    Inside, images are (B, 3, s, s) in -1..1 at the resolution of the diffusion.
    """

    def __init__(self, config: Config, setup: Setup):
        super().__init__()
        self.config, self.epochs, self.batch_size = config, config.epochs, config.batch_size
        self.side = config.resolution or setup.image_size
        self.unet = unet(config, self.side)
        if config.checkpoint:
            checkpoint.load(self.unet, config.checkpoint)
        if config.compile:
            self.unet.compile()
        self.guided = Guided(config.start, config.skip, config.eta, config.noised_one_step_more)
        self.frozen = setup.features(*config.strides)
        self.features = Student(self.frozen)
        self.features.load_state_dict(self.frozen.state_dict())
        self.average: EMAModel | None = None
        self.bf16 = config.precision == "bf16" or (config.precision == "auto" and setup.device != "cpu")
        self.register_buffer("seed", torch.tensor(setup.seed))  # of the noise that every test image gets
        self.register_buffer("ratio", torch.tensor(1.0))  # largest feature distance / largest pixel distance

    def optimizer(self) -> torch.optim.Optimizer:
        weights = list(self.unet.parameters())
        adam = torch.optim.Adam(weights, lr=self.config.lr, weight_decay=self.config.decay, fused=True)
        if self.config.ema:
            self.average = EMAModel(weights, decay=self.config.ema)
            adam.register_step_post_hook(lambda *_: self.average.step(weights))
        return adam

    def loss(self, image: Tensor) -> Tensor:
        """Squared error of the predicted noise: the mean over images of the sum over pixels."""
        clean = self.scaled(image)
        noise = torch.randn_like(clean)
        level = torch.randint(self.config.levels, (len(clean),), device=clean.device)
        with self.reduced():
            found = self._noise_in(self.guided.noised(clean, noise, level), level)
        return (noise - found.float()).square().sum() / len(clean)

    def response(self, image: Tensor) -> tuple[Tensor]:
        """The noise found in the images under the test images' noise, at the level where reconstruction begins."""
        level = self.guided.steps[0]
        return (self._noise_in(self.guided.noised(self.scaled(image), self._fixed_noise()[0], level), level),)

    def consolidate(self, images: Iterable[Tensor]) -> None:
        """Adapt the feature network to the reconstructions, then measure the ratio on images kept from that."""
        if self.average is not None:
            self.average.copy_to(self.unet.parameters())
            self.average = None
        mode = self.training
        self.eval()
        shown, kept = adaptation.split(images, self.config.held_out)
        adaptation.adapt(self, shown)
        self.ratio = self._ratio(*self._in_batches(self._distances, kept))
        self.train(mode)

    @torch.no_grad()
    def again(self, start: Tensor, target: Tensor, w: float, noise: Iterable[Tensor]) -> Tensor:
        """R(start, target; w): noise `start`, remove the noise again guided by `target`."""
        return self.guided(self._noise_in, start, target, w, noise)

    def predict(self, image: Tensor) -> Prediction:
        pixel, feature = self._distances(image)
        ratio = self.ratio if self.config.norm == "train" else self._ratio(pixel, feature)
        anomaly_map = smooth(feature + self.config.v * ratio * pixel, self.config.sigma)
        return Prediction(anomaly_map.amax((1, 2, 3)), anomaly_map)

    def reconstruct(self, image: Tensor) -> Tensor:
        """What `predict` compares (B, 3, H, W) with, in 0..1."""
        target = self.scaled(image)
        made = self.again(target, target, self.config.w, self._fixed_noise())
        return self.seen(made, image.shape[-1]).clamp(0, 1)

    def raw_error(self, image: Tensor) -> Tensor:
        """Mean absolute error (B,) of the reconstruction without guidance, in 0..1: how well the U-Net knows these."""
        target = self.scaled(image)
        return (self.again(target, target, 0.0, self._fixed_noise()) - target).abs().mean((1, 2, 3)) / 2

    def _distances(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Pixel and feature distance between image and reconstruction, each (B, 1, H, W)."""
        target, size = self.scaled(image), image.shape[-1]
        made = self.again(target, target, self.config.w, self._fixed_noise())
        pixel = sized((made - target).abs().mean(1, keepdim=True), size)
        return pixel, self._feature_distance(self.seen(made, size), self.seen(target, size))

    def _feature_distance(self, made: Tensor, target: Tensor) -> Tensor:
        """Cosine distance of features averaged over 3 x 3 places, summed over strides: (B, 1, H, W); images in 0..1."""
        total = 0
        with torch.no_grad():
            pairs = zip(self.features(made).values(), self.features(target).values(), strict=True)
            for a, b in list(pairs)[self.config.unmapped :]:
                distance = 1 - F.cosine_similarity(F.avg_pool2d(a, 3, 1, 1), F.avg_pool2d(b, 3, 1, 1))
                total += F.interpolate(distance[:, None], made.shape[-2:], mode="bilinear", align_corners=True)
        return total

    @staticmethod
    def _ratio(pixel: Tensor, feature: Tensor) -> Tensor:
        return feature.amax() / pixel.amax().clamp_min(1e-12)

    def _in_batches(self, function, images: Tensor) -> list[Tensor]:
        parts = [function(self.floats(batch)) for batch in images.split(self.batch_size)]
        return [torch.cat(each) for each in zip(*parts, strict=True)]

    def floats(self, stored: Tensor) -> Tensor:
        """Stored bytes as images in 0..1 on the detector's device."""
        return stored.to(self.ratio.device).float() / 255

    def scaled(self, image: Tensor) -> Tensor:
        """Images in 0..1 as the diffusion sees them."""
        return sized(image, self.side, "area") * 2 - 1

    def seen(self, image: Tensor, side: int) -> Tensor:
        """Images of the diffusion as the feature networks see them: in 0..1, `side` px."""
        return sized(image / 2 + 0.5, side)

    def _fixed_noise(self) -> Tensor:
        shape = (self.guided.draws, 1, 3, self.side, self.side)
        return trajectory_noise(int(self.seed), shape).to(self.ratio.device)

    def _noise_in(self, noisy: Tensor, level: Tensor | int) -> Tensor:
        return self.unet(noisy.contiguous(memory_format=torch.channels_last), level).sample

    def reduced(self) -> torch.autocast:
        """Within, bf16 where it is wanted. Never around a prediction: it would depend on the size of its batch."""
        return torch.autocast(self.ratio.device.type, torch.bfloat16, enabled=self.bf16)


def sized(image: Tensor, side: int, mode: str = "bilinear") -> Tensor:
    """(B, C, side, side), untouched where it is that already."""
    return image if image.shape[-1] == side else F.interpolate(image, (side, side), mode=mode)
