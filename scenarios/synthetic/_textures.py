"""Textures: woven fabric, wood grain, glazed tiles, each a function of a random generator."""

import numpy as np

from ._field import Array, Noise, box, disc, mix, step, turn
from ._scene import Scene

EVERYWHERE = lambda x, y: np.full(np.shape(x), -1.0)  # noqa: E731 - a region as a value


def fabric(rng: np.random.Generator) -> Scene:
    """Twill of blue warp over pale weft; misses a thread, or a piece is darned in at another angle."""
    noise, threads = Noise(rng), Noise(rng)
    pitch, angle = 7.5 * rng.uniform(0.95, 1.05), rng.normal(0, 0.05)
    phase_x, phase_y = rng.uniform(0, 60, 2)
    warp = np.array([0.24, 0.33, 0.52]) * rng.uniform(0.92, 1.08)
    weft = np.array([0.68, 0.68, 0.66]) * rng.uniform(0.92, 1.08)

    def thread(x: Array, y: Array) -> tuple[Array, Array]:
        u, v = turn(x, y, angle)
        u, v = u * pitch + phase_x, v * pitch + phase_y
        return u + 0.22 * noise(u / 5, v / 5), v + 0.22 * noise(u / 5 + 31, v / 5)

    def ground(x: Array, y: Array) -> Array:
        u, v = thread(x, y)
        over = (np.floor(u) + np.floor(v)) % 3 < 2
        across = np.where(over, u % 1, v % 1) * 2 - 1
        tone = np.where(over, threads.cell(u, 0 * v), threads.cell(0 * u + 7, v))
        shade = (0.72 + 0.28 * np.sqrt(np.clip(1 - across**2, 0, 1))) * (1 + 0.08 * tone + 0.06 * noise(u * 3, v * 3))
        return np.where(over[..., None], warp, weft) * shade[..., None]

    def cut(rng: np.random.Generator):
        x, y, long, upright = *rng.uniform(-0.6, 0.6, 2), rng.uniform(0.18, 0.4), rng.random() < 0.5
        half = 0.55 / pitch
        region = box(x, y, half if upright else long, long if upright else half, angle)

        def bare(p: Array, q: Array) -> Array:
            u, v = thread(p, q)
            lone = v if upright else u
            tone = 0.45 + 0.4 * np.abs(np.sin(np.pi * lone))
            return mix(ground(p, q), (weft if upright else warp) * tone[..., None], region(p, q) < 0)

        return bare, region

    def shift(rng: np.random.Generator, amount: float):
        return _relay(rng, ground, box(*rng.uniform(-0.6, 0.6, 2), *rng.uniform(0.16, 0.28, 2), angle), amount)

    return Scene(ground, EVERYWHERE, cut=cut, shift=shift)


def wood(rng: np.random.Generator) -> Scene:
    """Planed wood, now and then a knot; misses a chip, or has a plug set in across the grain."""
    noise, fibre = Noise(rng), Noise(rng, 128)
    angle, rings = rng.normal(0, 0.06), 3.2 * rng.uniform(0.85, 1.15)
    phase = rng.uniform(0, 60, 4)
    light = np.array([0.78, 0.60, 0.40]) * rng.uniform(0.92, 1.08)
    dark = light * np.array([0.68, 0.60, 0.52]) * rng.uniform(0.9, 1.1)
    knot = (*rng.uniform(-0.9, 0.9, 2), rng.uniform(0.05, 0.09)) if rng.random() < 0.3 else (9.0, 9.0, 0.1)

    def ground(x: Array, y: Array) -> Array:
        u, v = turn(x, y, angle)
        near = np.hypot((u - knot[0]) / 1.6, v - knot[1]) / knot[2]
        bulge = np.exp(-((near / 3) ** 2)) * np.sign(v - knot[1]) * 0.25
        ring = rings * (v - bulge) + 0.9 * noise(u * 0.7 + phase[0], v * 0.9 + phase[1])
        late = (ring + phase[2]) % 1
        grain = late**3 * 0.9 + 0.12 * fibre(u * 5 + phase[3], v * 42) + 0.1 * noise(u * 2, v * 4 + phase[1])
        return mix(mix(light, dark, np.clip(grain, 0, 1)), dark * 0.5, 0.8 * step(-1, -near, 0.6))

    def cut(rng: np.random.Generator):
        x, y, long, half = *rng.uniform(-0.6, 0.6, 2), rng.uniform(0.12, 0.25), rng.uniform(0.04, 0.07)

        def region(p: Array, q: Array) -> Array:
            u, v = turn(p - x, q - y, angle)
            return np.abs(v) - half * (1 - np.abs(u) / long) * (1 + 0.5 * noise(u * 14 + phase[0], v * 4))

        def chipped(p: Array, q: Array) -> Array:
            inner = step(0, -region(p, q), 0.03)
            rough = 0.75 + 0.2 * fibre(p * 20, q * 20)
            return mix(ground(p, q), light * np.array([0.8, 0.72, 0.6]) * rough[..., None], inner)

        return chipped, region

    def shift(rng: np.random.Generator, amount: float):
        return _relay(rng, ground, disc(*rng.uniform(-0.6, 0.6, 2), rng.uniform(0.14, 0.24)), amount)

    return Scene(ground, EVERYWHERE, cut=cut, shift=shift)


def tile(rng: np.random.Generator) -> Scene:
    """Glazed tiles in grout; one is missing, or lies turned in its bed."""
    noise, glaze = Noise(rng), Noise(rng)
    pitch, angle = 0.5 * rng.uniform(0.97, 1.03), rng.normal(0, 0.03)
    phase_x, phase_y, half = *rng.uniform(0, 30, 2), 0.44
    base = np.array([0.42, 0.58, 0.55]) * rng.uniform(0.92, 1.08)
    accent = np.array([0.62, 0.66, 0.58]) * rng.uniform(0.92, 1.08)
    grout = np.array([0.70, 0.68, 0.64]) * rng.uniform(0.92, 1.08)

    def cell(x: Array, y: Array) -> tuple[Array, Array]:
        u, v = turn(x, y, angle)
        return u / pitch + phase_x, v / pitch + phase_y

    def glazed(u: Array, v: Array, p: Array, q: Array) -> Array:
        tone = 0.07 * glaze.cell(u, v) + 0.1 * noise(p * 5, q * 5) + 0.07 * noise(p * 13, q * 13)
        colour = mix(base, accent, step(0.25, noise(p * 3.1 + 17, q * 3.1), 0.7)) * (1 + tone)[..., None]
        rim = np.abs(np.maximum(np.abs(u % 1 - 0.5), np.abs(v % 1 - 0.5)) - half)
        return colour * (1 + 0.16 * np.exp(-rim / 0.05) * np.sign(1 - u % 1 - v % 1))[..., None]

    def bed(p: Array, q: Array) -> Array:
        return grout * (1 + 0.09 * noise(p * 22, q * 22 + 5))[..., None]

    def laid(u: Array, v: Array, p: Array, q: Array) -> Array:
        inside = half - np.maximum(np.abs(u % 1 - 0.5), np.abs(v % 1 - 0.5))
        return mix(bed(p, q), glazed(u, v, p, q), step(0, inside, 0.06))

    def ground(x: Array, y: Array) -> Array:
        u, v = cell(x, y)
        return laid(u, v, u * pitch, v * pitch)

    def centre(rng: np.random.Generator) -> tuple[float, float]:
        u, v = cell(*rng.uniform(-0.6, 0.6, 2))
        return turn((np.floor(u) + 0.5 - phase_x) * pitch, (np.floor(v) + 0.5 - phase_y) * pitch, -angle)

    def cut(rng: np.random.Generator):
        (x, y), side = centre(rng), half * pitch
        corner = turn(*(rng.choice([-1, 1], 2) * side), -angle)
        chip = disc(x + corner[0], y + corner[1], side * rng.uniform(0.6, 1.1))
        whole = box(x, y, side, side, angle)

        def region(p: Array, q: Array) -> Array:
            return np.maximum(whole(p, q), chip(p, q) + 0.03 * noise(p * 11, q * 11))

        def broken(p: Array, q: Array) -> Array:
            return mix(ground(p, q), bed(p, q) * 0.82, step(0, -region(p, q), 0.03))

        return broken, region

    def shift(rng: np.random.Generator, amount: float):
        (x, y), twist = centre(rng), amount * rng.uniform(0.2, 0.45) * rng.choice([-1, 1])
        old, new = box(x, y, half * pitch, half * pitch, angle), box(x, y, half * pitch, half * pitch, angle + twist)

        def turned(p: Array, q: Array) -> Array:
            r, s = turn(p - x, q - y, twist)
            u, v = cell(r + x, s + y)
            lying = mix(bed(p, q), glazed(u, v, u * pitch, v * pitch), new(p, q) < 0)
            return mix(ground(p, q), lying, np.minimum(old(p, q), new(p, q)) < 0)

        return turned, lambda p, q: np.minimum(old(p, q), new(p, q))

    return Scene(ground, EVERYWHERE, cut=cut, shift=shift)


def _relay(rng: np.random.Generator, ground, region, amount: float):
    """A piece of the ground taken from elsewhere and set in turned: its region, and the ground with it."""
    twist, far = (0.25 + amount) * rng.uniform(0.5, 1.0) * rng.choice([-1, 1]), rng.uniform(-0.5, 0.5, 2)

    def relaid(x: Array, y: Array) -> Array:
        u, v = turn(x, y, twist)
        edge = step(-0.02, region(x, y), 0.03)[..., None] * 0.25
        return mix(ground(x, y), ground(u + far[0], v + far[1]) * (1 - edge), region(x, y) < 0)

    return relaid, region
