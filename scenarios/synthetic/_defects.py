"""Five kinds of defect, each painted on a scene together with the exact region that it changes."""

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from ._field import Array, Noise, mix, step, turn
from ._scene import Scene

Painted = tuple[Array, Array]  # colours (H, W, 3), and where they are not those of the sound item (H, W) bool
# scene, its colours (H, W, 3), x and y (H, W), generator, strength 0..1
Defect = Callable[[Scene, Array, Array, Array, Generator, float], Painted]


def scratch(scene: Scene, image: Array, x: Array, y: Array, rng: Generator, strength: float) -> Painted:
    """A thin curved groove, lit on one side and dark on the other."""
    far, signed = _stroke(rng, *_spot(scene, rng), rng.uniform(0.2, 0.45), rng.uniform(0, 0.35), x, y)
    width = rng.uniform(0.02, 0.035)
    cover = np.clip((width - far) / (2 / len(x)) + 0.5, 0, 1)
    side = rng.choice([-1, 1])
    relief = np.where(signed * side > 0, 1.0, -0.5)
    tone = image * (1 + strength * 0.9 * relief * rng.choice([-1, 1]))[..., None]
    return mix(image, tone, cover), (cover > 0.05) & (scene.surface(x, y) < 0.02)


def blob(scene: Scene, image: Array, x: Array, y: Array, rng: Generator, strength: float) -> Painted:
    """A soft stain that tints what lies under it."""
    (at_x, at_y), noise = _spot(scene, rng), Noise(rng, 16)
    u, v = turn(x - at_x, y - at_y, rng.uniform(0, np.pi))
    radius, squeeze = rng.uniform(0.11, 0.24), rng.uniform(0.6, 1.0)
    reach = np.hypot(u, v / squeeze) / radius * (1 + 0.35 * noise(u * 7, v * 7))
    cover = step(-1, -reach, 0.5)
    tint = rng.normal(0, 0.35, 3) + rng.choice([-1, 1]) * 0.75
    stained = np.clip(image * (1 + strength * 0.6 * tint), 0, 1)
    return mix(image, stained, cover), (cover > 0.1) & (scene.surface(x, y) < 0.02)


def contamination(scene: Scene, image: Array, x: Array, y: Array, rng: Generator, strength: float) -> Painted:
    """A foreign fibre, or a few particles, lying on the item."""
    cover = np.zeros(x.shape)
    pixel, (at_x, at_y) = 2 / len(x), _spot(scene, rng)
    if rng.random() < 0.5:
        far, _ = _stroke(rng, at_x, at_y, rng.uniform(0.2, 0.35), rng.uniform(0.5, 1.2), x, y)
        cover = np.clip((rng.uniform(0.016, 0.024) - far) / pixel + 0.5, 0, 1)
    else:
        for _ in range(rng.integers(2, 6)):
            u, v = turn(x - at_x - rng.normal(0, 0.1), y - at_y - rng.normal(0, 0.1), rng.uniform(0, np.pi))
            grain = rng.uniform(0.02, 0.05) - np.abs(u) - np.abs(v) * rng.uniform(0.8, 1.6)
            cover = np.maximum(cover, np.clip(grain / pixel + 0.5, 0, 1))
    colour = np.clip(rng.uniform(0.1, 0.9) + rng.normal(0, 0.12, 3), 0, 1)
    cover = np.minimum(cover, 1) * min(1.0, 0.25 + 1.1 * strength)
    return mix(image, colour, cover), cover > 0.03


def missing(scene: Scene, image: Array, x: Array, y: Array, rng: Generator, strength: float) -> Painted:
    """A part, a thread, a chip of the material is not there."""
    changed, region = scene.without(rng)
    return changed.paint(x, y), region(x, y) < 1 / len(x)


def misplacement(scene: Scene, image: Array, x: Array, y: Array, rng: Generator, strength: float) -> Painted:
    """A part lies shifted or turned; the region is where it is and where it should be."""
    changed, region = scene.misplaced(rng, 0.35 + strength)
    return changed.paint(x, y), region(x, y) < 1 / len(x)


KINDS: dict[str, Defect] = {
    "scratch": scratch,
    "blob": blob,
    "missing": missing,
    "contamination": contamination,
    "misplacement": misplacement,
}


def _spot(scene: Scene, rng: Generator) -> tuple[float, float]:
    """A place on the item, a little inside its rim."""
    spots = rng.uniform(-0.75, 0.75, (64, 2))
    inside = scene.surface(spots[:, 0], spots[:, 1])
    return tuple(spots[np.argmax(inside < -0.08)])


def _stroke(rng, at_x: float, at_y: float, half: float, bend: float, x: Array, y: Array) -> tuple[Array, Array]:
    """Distance (H, W) of each point to a bent stroke through (at_x, at_y), and the side (signed) on which it lies."""
    u, v = turn(x - at_x, y - at_y, rng.uniform(0, 2 * np.pi))
    curve = bend * (u * u) / half
    slope = np.sqrt(1 + (2 * bend * u / half) ** 2)
    side = (v - curve) / slope
    over = np.maximum(np.abs(u) - half, 0)
    return np.hypot(side, over), side
