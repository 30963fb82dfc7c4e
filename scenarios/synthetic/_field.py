"""Coordinates and smooth noise that mean the same at any resolution."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Ground = Callable[[Array, Array], Array]  # x, y (H, W) in -1..1 -> colour (H, W, 3) in 0..1
Region = Callable[[Array, Array], Array]  # x, y (H, W) -> signed distance (H, W), negative inside, same unit as x


def grid(size: int) -> tuple[Array, Array]:
    """Pixel centres of a square image (size, size), x to the right, y down, both -1..1."""
    line = (np.arange(size) + 0.5) * 2 / size - 1
    x, y = np.meshgrid(line, line)
    return x, y


def turn(x: Array, y: Array, angle: float) -> tuple[Array, Array]:
    """Coordinates (x, y) seen from a frame turned by `angle`, in radians."""
    c, s = np.cos(angle), np.sin(angle)
    return c * x + s * y, c * y - s * x


def mix(a: Array, b: Array, share: Array) -> Array:
    """Colours a and b blended, `share` (H, W) of b."""
    share = np.asarray(share)[..., None]
    return a * (1 - share) + b * share


def step(edge: float, x: Array, width: float) -> Array:
    """Smooth 0..1 rise of x around `edge` over `width`."""
    t = np.clip((x - edge) / width + 0.5, 0, 1)
    return t * t * (3 - 2 * t)


class Noise:
    """Value noise in -1..1 on a wrapped random lattice, one cell per unit of its arguments."""

    def __init__(self, rng: np.random.Generator, cells: int = 64):
        self.cells = cells
        self.lattice = rng.uniform(-1, 1, (cells, cells))

    def __call__(self, u: Array, v: Array) -> Array:
        """Noise (H, W) at lattice coordinates u, v (H, W)."""
        i, j = np.floor(v).astype(int), np.floor(u).astype(int)
        s, t = v - i, u - j
        s, t = s * s * (3 - 2 * s), t * t * (3 - 2 * t)
        i, j, n = i % self.cells, j % self.cells, self.cells
        k, m = (i + 1) % n, (j + 1) % n
        a = self.lattice
        top = a[i, j] + (a[i, m] - a[i, j]) * t
        return top + (a[k, j] + (a[k, m] - a[k, j]) * t - top) * s

    def cell(self, u: Array, v: Array) -> Array:
        """One constant -1..1 per unit cell: what differs from thread to thread, tile to tile."""
        return self.lattice[np.floor(v).astype(int) % self.cells, np.floor(u).astype(int) % self.cells]


def disc(x: float, y: float, radius: float) -> Region:
    """Circle around (x, y)."""
    return lambda u, v: np.hypot(u - x, v - y) - radius


def box(x: float, y: float, half_x: float, half_y: float, angle: float = 0.0, radius: float = 0.0) -> Region:
    """Rectangle around (x, y) with half sides, turned by `angle`, corners rounded by `radius`."""

    def distance(u: Array, v: Array) -> Array:
        p, q = turn(u - x, v - y, angle)
        p, q = np.abs(p) - half_x + radius, np.abs(q) - half_y + radius
        return np.hypot(np.maximum(p, 0), np.maximum(q, 0)) + np.minimum(np.maximum(p, q), 0) - radius

    return distance


def everywhere(x: Array, y: Array) -> Array:
    """The region that is the whole image."""
    return np.full(np.shape(x), -1.0)
