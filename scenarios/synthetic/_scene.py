"""A scene: a ground, the parts lying on it, and what can go wrong with them."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ._field import Array, Ground, Region, mix, turn


@dataclass(frozen=True)
class Part:
    """A thing with an outline in its own frame, placed in the frame of the object."""

    outline: Region
    colour: Callable[[Array, Array, Array], Array]  # x, y, signed distance (H, W), in the part's frame -> (H, W, 3)
    x: float = 0.0
    y: float = 0.0
    angle: float = 0.0  # radians
    reach: float = 9.0  # no point of it is further from its centre: only that window is painted
    loose: bool = False  # may be missing or misplaced
    shadow: float = 0.0  # darkening of what lies under its rim, 0..1

    def local(self, x: Array, y: Array) -> tuple[Array, Array]:
        """The object's coordinates seen from the part."""
        return turn(x - self.x, y - self.y, self.angle)

    def distance(self, x: Array, y: Array) -> Array:
        """Signed distance (H, W) to the part's outline, negative inside."""
        return self.outline(*self.local(x, y))


@dataclass(frozen=True)
class Pose:
    """Where the object lies in the image; angle in radians."""

    x: float = 0.0
    y: float = 0.0
    angle: float = 0.0

    def local(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Image coordinates seen from the object."""
        return turn(x - self.x, y - self.y, self.angle)

    def image(self, u: float, v: float) -> tuple[float, float]:
        """The object's coordinates seen in the image."""
        x, y = turn(u, v, -self.angle)
        return x + self.x, y + self.y


@dataclass(frozen=True)
class Scene:
    """One defect-free item in front of the camera, a function of coordinates and thus of any resolution."""

    ground: Ground
    surface: Region  # where scratches, stains and dirt fall: negative on the item; in image coordinates
    pose: Pose = Pose()
    parts: tuple[Part, ...] = ()
    # Textures have no parts: they say how a piece of theirs goes missing or lies wrong, as (ground, region).
    cut: Callable[[np.random.Generator], tuple[Ground, Region]] | None = None
    shift: Callable[[np.random.Generator, float], tuple[Ground, Region]] | None = None

    def paint(self, x: Array, y: Array) -> Array:
        """Colours (H, W, 3) at image coordinates x, y (H, W), before light and sensor."""
        image = self.ground(x, y).copy()
        for part in self.parts:
            window = self._window(part, x)
            image[window] = self._lay(part, image[window], x[window], y[window], 2 / len(x))
        return image

    def _window(self, part: Part, x: Array) -> tuple[slice, slice]:
        """The rows and columns of a square image that a part can touch."""
        at_x, at_y = self.pose.image(part.x, part.y)
        size, reach = len(x), part.reach + 4 / len(x)
        span = [np.clip([(c - reach + 1) * size / 2, (c + reach + 1) * size / 2 + 1], 0, size) for c in (at_y, at_x)]
        return slice(*span[0].astype(int)), slice(*span[1].astype(int))

    def _lay(self, part: Part, image: Array, x: Array, y: Array, pixel: float) -> Array:
        p, q = part.local(*self.pose.local(x, y))
        distance = part.outline(p, q)
        if part.shadow:
            image = image * (1 - part.shadow * np.exp(-np.maximum(distance, 0) / 0.05))[..., None]
        return mix(image, part.colour(p, q, distance), np.clip(0.5 - distance / pixel, 0, 1))

    def without(self, rng: np.random.Generator) -> tuple["Scene", Region]:
        """The scene with a piece missing, and the region where it should be."""
        if self.cut:
            ground, region = self.cut(rng)
            return replace(self, ground=ground), region
        part = self._pick(rng)
        return self._swap(part, ()), lambda x, y: part.distance(*self.pose.local(x, y))

    def misplaced(self, rng: np.random.Generator, amount: float) -> tuple["Scene", Region]:
        """The scene with a piece shifted or turned by `amount` (0..1), and where it is or should be."""
        if self.shift:
            ground, region = self.shift(rng, amount)
            return replace(self, ground=ground), region
        part, way = self._pick(rng), rng.uniform(0, 2 * np.pi)
        far, twist = amount * rng.uniform(0.08, 0.13), amount * rng.uniform(0.3, 0.7) * rng.choice([-1, 1])
        moved = replace(part, x=part.x + far * np.cos(way), y=part.y + far * np.sin(way), angle=part.angle + twist)

        def region(x: Array, y: Array) -> Array:
            u, v = self.pose.local(x, y)
            return np.minimum(part.distance(u, v), moved.distance(u, v))

        return self._swap(part, (moved,)), region

    def _pick(self, rng: np.random.Generator) -> Part:
        loose = [part for part in self.parts if part.loose]
        return loose[rng.integers(len(loose))]

    def _swap(self, old: Part, new: tuple[Part, ...]) -> "Scene":
        at = next(i for i, part in enumerate(self.parts) if part is old)
        return replace(self, parts=self.parts[:at] + new + self.parts[at + 1 :])
