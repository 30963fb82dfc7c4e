"""SCALE: replay of thumbnails, made images again by a super-resolution GAN that is trained along the stream.

Dalle Pezze et al., Continual Learning Approaches for Anomaly Detection, arXiv:2212.11192. Kept between steps: `memory`
thumbnails as uint8, shared equally by the classes seen, and the networks of the codec; Adam starts anew at each step,
as the detector's does. The past is decoded by the generator of the day, once it has learned the new classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from bench.api import BadInput, Plugin, Setup, Strategy, normal_images
from methods._quota import Quota, as_bytes, by_class, joined
from methods._superresolution import Options, SuperResolution

DEFAULT_DETECTOR = "inpaint"
CAPABILITIES = ("labels",)  # the quota is per class
DECODE = ("current", "cached_once")


@dataclass(frozen=True)
class Config(Options):
    decode: str = "current"  # cached_once, as released: decoded after its own step and kept so; its quota never shrinks
    include_current: bool = False  # as released: from the second step on, decodes of the new classes are replayed too

    def __post_init__(self):
        if self.decode not in DECODE:
            raise BadInput(f"scale.decode={self.decode!r} is none of {', '.join(DECODE)}.")


def build(config: Config, setup: Setup) -> Strategy:
    cached = config.decode == "cached_once"
    return setup.strategy([CompressedReplay(config, setup, cached=cached, include_current=config.include_current)])


class CompressedReplay(Plugin):
    """A memory of thumbnails and the codec that decodes them."""

    def __init__(self, options: Options, setup: Setup, *, cached: bool = False, include_current: bool = False):
        super().__init__()
        self.codec = SuperResolution(options, setup.image_size).to(setup.device).eval()
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
        decoder = sum(weight.nbytes for weight in codec.net.generator.parameters())
        return {
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
