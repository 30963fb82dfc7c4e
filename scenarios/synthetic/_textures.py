"""Textures: woven fabric, wood grain, glazed tiles; a piece of them is missing, or laid wrong."""

import numpy as np
from numpy.random import Generator

from ._field import Array, Ground, Noise, Region, box, disc, everywhere, mix, step, turn
from ._scene import Scene


class Texture:
    """Fills the image, every place of it open to scratches. A texture gives `ground`, `cut` and `shift`."""

    def scene(self) -> Scene:
        return Scene(self.ground, everywhere, cut=self.cut, shift=self.shift)


class Fabric(Texture):
    """Twill of blue warp over pale weft; misses a thread, or a piece is darned in at another angle."""

    def __init__(self, rng: Generator):
        self.noise, self.threads = Noise(rng), Noise(rng)
        self.pitch, self.angle = 7.5 * rng.uniform(0.95, 1.05), rng.normal(0, 0.05)
        self.phase_x, self.phase_y = rng.uniform(0, 60, 2)
        self.warp = np.array([0.24, 0.33, 0.52]) * rng.uniform(0.92, 1.08)
        self.weft = np.array([0.68, 0.68, 0.66]) * rng.uniform(0.92, 1.08)

    def thread(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Number of the thread at x, y, across and down, with where in it as the fraction."""
        u, v = turn(x, y, self.angle)
        u, v = u * self.pitch + self.phase_x, v * self.pitch + self.phase_y
        return u + 0.22 * self.noise(u / 5, v / 5), v + 0.22 * self.noise(u / 5 + 31, v / 5)

    def ground(self, x: Array, y: Array) -> Array:
        u, v = self.thread(x, y)
        over = (np.floor(u) + np.floor(v)) % 3 < 2
        across = np.where(over, u % 1, v % 1) * 2 - 1
        tone = np.where(over, self.threads.cell(u, 0 * v), self.threads.cell(0 * u + 7, v))
        round_off = 0.72 + 0.28 * np.sqrt(np.clip(1 - across**2, 0, 1))
        shade = round_off * (1 + 0.08 * tone + 0.06 * self.noise(u * 3, v * 3))
        return np.where(over[..., None], self.warp, self.weft) * shade[..., None]

    def cut(self, rng: Generator) -> tuple[Ground, Region]:
        """A stretch of one thread is missing: the crossing ones lie bare."""
        x, y, long, upright = *rng.uniform(-0.6, 0.6, 2), rng.uniform(0.18, 0.4), rng.random() < 0.5
        half = 0.55 / self.pitch
        region = box(x, y, half if upright else long, long if upright else half, self.angle)

        def bare(p: Array, q: Array) -> Array:
            tone = 0.45 + 0.4 * np.abs(np.sin(np.pi * self.thread(p, q)[int(upright)]))
            return mix(self.ground(p, q), (self.weft if upright else self.warp) * tone[..., None], region(p, q) < 0)

        return bare, region

    def shift(self, rng: Generator, amount: float) -> tuple[Ground, Region]:
        """A piece is darned in."""
        region = box(*rng.uniform(-0.6, 0.6, 2), *rng.uniform(0.16, 0.28, 2), self.angle)
        return _relay(rng, self.ground, region, amount), region


class Wood(Texture):
    """Planed wood, now and then a knot; misses a chip, or has a plug set in across the grain."""

    def __init__(self, rng: Generator):
        self.noise, self.fibre = Noise(rng), Noise(rng, 128)
        self.angle, self.rings = rng.normal(0, 0.06), 3.2 * rng.uniform(0.85, 1.15)
        self.phase = rng.uniform(0, 60, 4)
        self.light = np.array([0.78, 0.60, 0.40]) * rng.uniform(0.92, 1.08)
        self.dark = self.light * np.array([0.68, 0.60, 0.52]) * rng.uniform(0.9, 1.1)
        self.knot = (*rng.uniform(-0.9, 0.9, 2), rng.uniform(0.05, 0.09)) if rng.random() < 0.3 else (9.0, 9.0, 0.1)

    def ground(self, x: Array, y: Array) -> Array:
        u, v = turn(x, y, self.angle)
        phase, (knot_x, knot_y, radius) = self.phase, self.knot
        near = np.hypot((u - knot_x) / 1.6, v - knot_y) / radius
        bulge = np.exp(-((near / 3) ** 2)) * np.sign(v - knot_y) * 0.25
        ring = self.rings * (v - bulge) + 0.9 * self.noise(u * 0.7 + phase[0], v * 0.9 + phase[1])
        late = (ring + phase[2]) % 1
        grain = late**3 * 0.9 + 0.12 * self.fibre(u * 5 + phase[3], v * 42) + 0.1 * self.noise(u * 2, v * 4 + phase[1])
        plain = mix(self.light, self.dark, np.clip(grain, 0, 1))
        return mix(plain, self.dark * 0.5, 0.8 * step(-1, -near, 0.6))

    def cut(self, rng: Generator) -> tuple[Ground, Region]:
        """A chip has broken out along the grain."""
        x, y, long, half = *rng.uniform(-0.6, 0.6, 2), rng.uniform(0.12, 0.25), rng.uniform(0.04, 0.07)

        def region(p: Array, q: Array) -> Array:
            u, v = turn(p - x, q - y, self.angle)
            return np.abs(v) - half * (1 - np.abs(u) / long) * (1 + 0.5 * self.noise(u * 14 + self.phase[0], v * 4))

        def chipped(p: Array, q: Array) -> Array:
            rough = self.light * np.array([0.8, 0.72, 0.6]) * (0.75 + 0.2 * self.fibre(p * 20, q * 20))[..., None]
            return mix(self.ground(p, q), rough, step(0, -region(p, q), 0.03))

        return chipped, region

    def shift(self, rng: Generator, amount: float) -> tuple[Ground, Region]:
        """A plug is set in across the grain."""
        region = disc(*rng.uniform(-0.6, 0.6, 2), rng.uniform(0.14, 0.24))
        return _relay(rng, self.ground, region, amount), region


class Tile(Texture):
    """Glazed tiles in grout; the corner of one is broken off, or one lies turned in its bed."""

    HALF = 0.44  # of a tile, in units of the pitch; the rest is grout

    def __init__(self, rng: Generator):
        self.noise, self.glaze = Noise(rng), Noise(rng)
        self.pitch, self.angle = 0.5 * rng.uniform(0.97, 1.03), rng.normal(0, 0.03)
        self.phase_x, self.phase_y = rng.uniform(0, 30, 2)
        self.base = np.array([0.42, 0.58, 0.55]) * rng.uniform(0.92, 1.08)
        self.accent = np.array([0.62, 0.66, 0.58]) * rng.uniform(0.92, 1.08)
        self.grout = np.array([0.70, 0.68, 0.64]) * rng.uniform(0.85, 1.1)
        self.depth = rng.uniform(0.4, 1.7)  # how mottled this batch is: else a defect's contrast would stand out

    def cell(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Number of the tile at x, y, across and down, with where in it as the fraction."""
        u, v = turn(x, y, self.angle)
        return u / self.pitch + self.phase_x, v / self.pitch + self.phase_y

    def glazed(self, u: Array, v: Array) -> Array:
        """The face of the tiles at cell coordinates u, v."""
        p, q, noise = u * self.pitch, v * self.pitch, self.noise
        tone = self.depth * (0.07 * self.glaze.cell(u, v) + 0.1 * noise(p * 5, q * 5) + 0.07 * noise(p * 13, q * 13))
        colour = mix(self.base, self.accent, step(0.25, noise(p * 3.1 + 17, q * 3.1), 0.7)) * (1 + tone)[..., None]
        rim = np.abs(np.maximum(np.abs(u % 1 - 0.5), np.abs(v % 1 - 0.5)) - self.HALF)
        return colour * (1 + 0.16 * np.exp(-rim / 0.05) * np.sign(1 - u % 1 - v % 1))[..., None]

    def bed(self, x: Array, y: Array) -> Array:
        """The mortar."""
        return self.grout * (1 + 0.09 * self.noise(x * 22, y * 22 + 5))[..., None]

    def ground(self, x: Array, y: Array) -> Array:
        u, v = self.cell(x, y)
        inside = self.HALF - np.maximum(np.abs(u % 1 - 0.5), np.abs(v % 1 - 0.5))
        return mix(self.bed(x, y), self.glazed(u, v), step(0, inside, 0.06))

    def centre(self, rng: Generator) -> tuple[float, float]:
        """The middle of some tile."""
        u, v = self.cell(*rng.uniform(-0.6, 0.6, 2))
        x, y = (np.floor(u) + 0.5 - self.phase_x) * self.pitch, (np.floor(v) + 0.5 - self.phase_y) * self.pitch
        return turn(x, y, -self.angle)

    def cut(self, rng: Generator) -> tuple[Ground, Region]:
        """A corner is broken off."""
        (x, y), side = self.centre(rng), self.HALF * self.pitch
        corner = turn(*(rng.choice([-1, 1], 2) * side), -self.angle)
        chip = disc(x + corner[0], y + corner[1], side * rng.uniform(0.6, 1.1))
        whole = box(x, y, side, side, self.angle)

        def region(p: Array, q: Array) -> Array:
            return np.maximum(whole(p, q), chip(p, q) + 0.03 * self.noise(p * 11, q * 11))

        def broken(p: Array, q: Array) -> Array:
            return mix(self.ground(p, q), self.bed(p, q) * 0.82, step(0, -region(p, q), 0.03))

        return broken, region

    def shift(self, rng: Generator, amount: float) -> tuple[Ground, Region]:
        """One tile lies turned."""
        (x, y), side = self.centre(rng), self.HALF * self.pitch
        twist = amount * rng.uniform(0.2, 0.45) * rng.choice([-1, 1])
        old, new = box(x, y, side, side, self.angle), box(x, y, side, side, self.angle + twist)

        def region(p: Array, q: Array) -> Array:
            return np.minimum(old(p, q), new(p, q))

        def turned(p: Array, q: Array) -> Array:
            r, s = turn(p - x, q - y, twist)
            lying = mix(self.bed(p, q), self.glazed(*self.cell(r + x, s + y)), new(p, q) < 0)
            return mix(self.ground(p, q), lying, region(p, q) < 0)

        return turned, region


def _relay(rng: Generator, ground: Ground, region: Region, amount: float) -> Ground:
    """The ground with a region of it taken from elsewhere and set in turned."""
    twist, far = (0.25 + amount) * rng.uniform(0.5, 1.0) * rng.choice([-1, 1]), rng.uniform(-0.5, 0.5, 2)

    def relaid(x: Array, y: Array) -> Array:
        u, v = turn(x, y, twist)
        edge = step(-0.02, region(x, y), 0.03)[..., None] * 0.25
        return mix(ground(x, y), ground(u + far[0], v + far[1]) * (1 - edge), region(x, y) < 0)

    return relaid
