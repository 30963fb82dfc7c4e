"""DDAD: a diffusion model, guided by the image itself, makes it again without its defects; features compare the two.

Mousakhan, Brox and Tayyub, Anomaly Detection with Conditioned Denoising Diffusion Models, arXiv:2305.15956, in the
version of the authors' last code. Each step of the stream goes on training one U-Net on noise prediction, then adapts
a feature network to pairs of reconstruction and image. Training images give the scale between pixel and feature
distance, so that each test image is judged on its own.

Control: `--set ddad.w=0` reconstructs without guidance by the image; the matrix `raw_error` tells of any run how well
the U-Net does so.

`--set ddad.as_released=true` does as the released code:
- the image gets one step more noise than the U-Net is told (`noised_one_step_more`);
- images are paired at random for the adaptation (`pairs_at_random`): all of a step are of one class there. Here the
  most similar ones are paired, since a step may bring several;
- a last batch that is not full is left out (`drop_last`);
- scores are the maxima of the maps' centres, 224 of 256 px (`crop`). Maps are not cut: every pixel of the truth counts;
- training in float32 (`precision=fp32`).
Not taken over: the ratio of distances by the test batch (`norm=batch`), which lets test images decide about each other
and is refused; options per class by the test set (`upstream_per_class`), since a stream does not name its classes.
"""

from dataclasses import dataclass, fields

from bench.api import BadInput, Detector, Setup, later
from methods.detectors.ddad.detector import Ddad
from methods.detectors.ddad.per_class import PER_CLASS, TUNED

TRAITS = ("gradient", "conditioned_diffusion")
BACKBONE = "wide_resnet101_2.tv_in1k"
TUNED_ON = {
    "": "epochs are the median of what the authors chose per class on the test set of MVTec AD",
    "upstream_per_class": "chosen per class on the test set by the authors",
}
AS_RELEASED = {
    "noised_one_step_more": True, "pairs_at_random": True, "drop_last": True, "crop": 0.875, "precision": "fp32",
}  # fmt: skip


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
    drop_last: bool = later(False)  # as released: a last batch of the U-Net's training that is not full is left out
    crop: float = later(1.0)  # share of the map's side, in its middle, whose maximum is the score; 0.875 as released

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
        if not 0 < self.crop <= 1:
            raise BadInput(f"ddad.crop={self.crop!r} is no share of the map's side: give more than 0, up to 1.")
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
