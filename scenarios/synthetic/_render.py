"""From a key to pixels: the item, the light, the sensor, and the mask of what is wrong."""

from dataclasses import dataclass
from zlib import crc32

import numpy as np

from ._defects import KINDS
from ._field import Array, grid
from ._objects import Board, Capsule, Gear
from ._textures import Fabric, Tile, Wood

CLASSES = {"fabric": Fabric, "gear": Gear, "wood": Wood, "board": Board, "tile": Tile, "capsule": Capsule}
FINE = 128  # px: smaller images are painted at least this fine, then averaged


@dataclass(frozen=True)
class Key:
    """All that decides an image, at any size: nothing depends on how many others are drawn."""

    category: str
    split: str
    kind: str
    index: int
    seed: int
    difficulty: float

    def __str__(self) -> str:
        return (
            f"{self.category}/{self.split}/{self.kind}/{self.index:04d}@seed={self.seed},difficulty={self.difficulty:g}"
        )

    @classmethod
    def parse(cls, text: str) -> "Key":
        """The key that `str` wrote."""
        path, _, rest = text.rpartition("@")
        category, split, kind, index = path.rsplit("/", 3)
        seed, difficulty = (part.split("=")[1] for part in rest.split(","))
        return cls(category, split, kind, int(index), int(seed), float(difficulty))

    def rng(self, purpose: str) -> np.random.Generator:
        """A generator of its own for each purpose, the same whatever else is drawn."""
        group = "normal" if self.kind == "good" else "anomalous"
        words = (self.category, self.split, group, purpose)
        return np.random.default_rng([self.seed, self.index, *(crc32(word.encode()) for word in words)])


def render(key: Key, size: int) -> tuple[Array, Array, Array]:
    """Image and its defect-free twin (size, size, 3) uint8, and the mask (size, size) bool outside which they agree."""
    scene = CLASSES[key.category](key.rng("item")).scene()
    fold = -(-FINE // size)
    x, y = grid(size * fold)
    twin = image = scene.paint(x, y)
    mask = np.zeros(x.shape, bool)
    if key.kind != "good":
        changed, mask = KINDS[key.kind](scene, twin, x, y, key.rng("defect"), 1.45 - 1.2 * key.difficulty)
        image = np.where(mask[..., None], changed, twin)
    light = _light(key, x, y)
    grain = _grain(key, size)
    cover = mask.reshape(size, fold, size, fold).any(axis=(1, 3))
    return _expose(image * light, grain, fold), _expose(twin * light, grain, fold), cover


def _light(key: Key, x: Array, y: Array) -> Array:
    """Lamp: strength, colour and a fall-off across the image, (H, W, 3)."""
    rng = key.rng("light")
    slope_x, slope_y = rng.normal(0, 0.035, 2)
    lamp = rng.uniform(0.87, 1.09) * rng.normal(1, 0.01, 3)
    return lamp * (1 + slope_x * x + slope_y * y - rng.uniform(0, 0.06) * (x * x + y * y))[..., None]


def _grain(key: Key, size: int) -> Array:
    """Sensor noise (size, size, 3), of an amount that differs from image to image."""
    rng = key.rng("sensor")
    return rng.uniform(0.004, 0.018) * rng.standard_normal((size, size, 3))


def _expose(image: Array, grain: Array, fold: int) -> Array:
    size = len(grain)
    pixels = image.reshape(size, fold, size, fold, 3).mean(axis=(1, 3)) + grain
    return np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
