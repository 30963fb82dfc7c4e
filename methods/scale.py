"""SCALE: replay of thumbnails, made images again by a super-resolution GAN that is trained along the stream.

Dalle Pezze et al., Continual Learning Approaches for Anomaly Detection, arXiv:2212.11192. Kept between steps: `memory`
thumbnails as uint8, shared equally by the classes seen, and the networks of the codec; Adam starts anew at each step,
as the detector's does. The past is decoded by the generator of the day, once it has learned the new classes.

Control: `--set scale.decode=lanczos` enlarges the thumbnails by the filter that made them small, with no network. The
cell's notes tell what the codec is worth: `memory_psnr` beside `memory_psnr_lanczos`.

`--set scale.as_released=true` does as the released code, the detector `inpaint` included:
- decoded once, after their own step, and kept as images (`decode=cached_once`): quicker, but it needs the bytes that a
  thumbnail saves, and the quota of a class never shrinks;
- decodes of the new classes join the replay (`include_current`), by an index that is one too high;
- targets normalised as for ImageNet (`imagenet_range`), whose range the Tanh cannot reach: every decode is pale;
- dropout and each image's own statistics when decoding (`train_mode_at_test`): nobody calls `eval()`;
- one image per step of the optimizer (`batch_size=1`), as in the paper; at tiny size this is dear.
Not taken over: grey levels are cut off and wrap around instead of being rounded; Adam lives on from step to step.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from bench.api import BadInput, Plugin, Setup, Strategy, normal_images
from methods._quota import Quota, as_bytes, by_class, joined
from methods._superresolution import Options, SuperResolution, lanczos

DEFAULT_DETECTOR = "inpaint"
CAPABILITIES = ("labels",)  # the quota is per class
AS_RELEASED = {
    "decode": "cached_once", "include_current": True, "imagenet_range": True, "train_mode_at_test": True,
    "batch_size": 1,
}  # fmt: skip
DECODE = ("current", "cached_once", "lanczos")


@dataclass(frozen=True)
class Config(Options):
    # cached_once, as released: decoded after its own step and kept so, and its quota never shrinks; lanczos: no network
    decode: str = "current"
    include_current: bool = False  # as released: from the second step on, decodes of the new classes are replayed too

    def __post_init__(self):
        if self.decode not in DECODE:
            raise BadInput(f"scale.decode={self.decode!r} is none of {', '.join(DECODE)}.")


def build(config: Config, setup: Setup) -> Strategy:
    cached = config.decode == "cached_once"
    codec = Lanczos if config.decode == "lanczos" else SuperResolution
    return setup.strategy(
        [CompressedReplay(config, setup, cached=cached, include_current=config.include_current, codec=codec)]
    )


class Lanczos(SuperResolution):
    """The control: what made the thumbnails small makes them large again. It has no weights, and nothing to learn."""

    def __init__(self, options: Options, pixels: int):
        super().__init__(options, pixels)
        del self.net

    def decode(self, thumbnails: Tensor) -> Tensor:
        return lanczos(thumbnails, self.pixels)

    def fit(self, *_) -> None:
        pass


class CompressedReplay(Plugin):
    """A memory of thumbnails and the codec that decodes them."""

    def __init__(
        self, options: Options, setup: Setup, *, cached: bool = False, include_current: bool = False,
        codec: type[SuperResolution] = SuperResolution,
    ):  # fmt: skip
        super().__init__()
        self.codec = codec(options, setup.image_size).to(setup.device).eval()
        self.memory = Quota(options.memory)  # (3, h, w) uint8
        self.cached, self.include_current = cached, include_current
        self.cache: dict[int, Tensor] = {}  # class -> (n, 3, H, W) uint8, beside the memory if `cached`
        self.steps = 0  # learned so far

    def after_train_dataset_adaptation(self, strategy, **_):
        """Train the codec on the step and on its own decodes of the past; then train the detector on the past too."""
        images = by_class(strategy.experience.dataset)
        self.new = {category: self.codec.shrink(found) for category, found in images.items()}
        old = (self.memory.items(), self._pictures()) if len(self.memory) else None
        self.codec.fit((joined(self.new), joined(images)), old, self.memory.draw)
        if self.include_current:
            self.admit()
        if self.steps:
            strategy.rehearse(normal_images(self._pictures()))

    def after_training_exp(self, strategy, **_):
        """Keep a random choice of the new thumbnails and make room for it."""
        if not self.include_current:
            self.admit()
        self.new, self.steps = {}, self.steps + 1

    def admit(self) -> None:
        """Let the thumbnails of the step into the memory."""
        self.memory.admit(self.new, trim=not self.cached)
        if self.cached:
            self.cache |= {category: self.codec.decode(self.memory.kept[category]) for category in self.new}

    def _pictures(self) -> Tensor:
        """What the memory replays: (N, 3, H, W) uint8, in the order of its items."""
        return joined(self.cache) if self.cached else self.codec.decode(self.memory.items())

    def recall(self) -> dict[int, tuple[Tensor, Tensor]]:
        return self.memory.recalled(self._pictures())

    def report(self) -> dict[str, float]:
        """Bytes kept for the images and for the network that decodes them, and from how many images on that pays."""
        codec, thumbnails = self.codec, self.memory.items()
        image = 3 * codec.pixels**2  # bytes
        decoder = sum(weight.nbytes for name, weight in codec.named_parameters() if "generator" in name)
        return {
            "thumbnail_px": codec.small,
            "payload_bytes": thumbnails.nbytes + joined(self.cache).nbytes,
            "decoder_bytes": decoder,
            "break_even_images": decoder / max(image - 3 * codec.small**2, 1),
        }

    @torch.no_grad()
    def exhibits(self, images: Tensor, step: int) -> dict[str, Tensor]:
        """What is kept of images (n, 3, H, W) in 0..1 and what is made of it now, each (n, 3, h, w) in 0..1."""
        thumbnails = self.codec.shrink(as_bytes(images))
        return {"thumbnail": thumbnails / 255, "decode": self.codec.decode(thumbnails) / 255}

    def state_dict(self) -> dict:
        cache = {"cache": self.cache} if self.cached else {}
        return self.memory.state_dict() | {"codec": dict(self.codec.state_dict()), "steps": self.steps} | cache

    def load_state_dict(self, state: dict) -> None:
        self.memory.load_state_dict(state)
        self.codec.load_state_dict(state["codec"])
        self.cache = {category: pictures.cpu() for category, pictures in state.get("cache", {}).items()}
        self.steps = state["steps"]
