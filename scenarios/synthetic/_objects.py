"""Objects: capsule, circuit board, gear; each a pose, a ground and parts that may be missing or misplaced."""

from dataclasses import replace
from functools import partial

import numpy as np
from numpy.random import Generator

from ._field import Array, Noise, box, disc, mix, step
from ._scene import Part, Pose, Scene

# kind, x, y, angle: the design of the board, the same on every copy.
LAYOUT = (
    ("chip", -0.3, -0.32, 0.0),
    ("chip", 0.42, 0.3, np.pi / 2),
    ("can", 0.45, -0.5, 0.0),
    ("can", 0.12, -0.62, 0.0),
    ("resistor", -0.5, 0.28, 0.0),
    ("resistor", -0.5, 0.46, 0.0),
    ("resistor", -0.5, 0.64, 0.0),
    ("diode", 0.0, 0.2, np.pi / 2),
    ("diode", 0.02, 0.62, 0.0),
    ("diode", 0.6, -0.12, 0.0),
)
SIZE = {"chip": (0.2, 0.15), "resistor": (0.13, 0.055), "diode": (0.12, 0.06), "can": (0.12, 0.12)}


class Capsule:
    """Two-coloured capsule with three printed bars on a mat; a bar is missing or askew."""

    def __init__(self, rng: Generator):
        self.noise, self.mat = Noise(rng), Noise(rng, 128)
        self.grey = np.array([0.52, 0.54, 0.57]) * rng.uniform(0.9, 1.1)
        self.ivory = np.array([0.80, 0.74, 0.58]) * rng.uniform(0.94, 1.06)
        self.red = np.array([0.70, 0.26, 0.20]) * rng.uniform(0.9, 1.1)
        self.long, self.radius = 0.46 * rng.uniform(0.97, 1.03), 0.29 * rng.uniform(0.97, 1.03)
        self.seam, self.gleam = rng.normal(0.02, 0.02), rng.uniform(0.1, 0.18)
        self.pose = Pose(rng.normal(0, 0.05), rng.normal(0, 0.05), rng.normal(0, 0.2))

    def scene(self) -> Scene:
        body = box(0, 0, self.long + self.radius, self.radius, radius=self.radius)
        bar = box(0, 0, 0.035, 0.12)
        bars = [Part(bar, self.ink, x, 0.02, 0.15, reach=0.13, loose=True) for x in (-0.44, -0.3, -0.16)]
        parts = (Part(body, self.shell, shadow=0.45), *bars)
        return Scene(self.ground, lambda x, y: body(*self.pose.local(x, y)), self.pose, parts)

    def ground(self, x: Array, y: Array) -> Array:
        return self.grey * (1 + 0.06 * self.mat(x * 26, y * 26) + 0.07 * self.noise(x * 2.5, y * 2.5))[..., None]

    def shell(self, x: Array, y: Array, distance: Array) -> Array:
        round_off = np.sqrt(np.clip(1 - (1 + distance / self.radius) ** 2, 0, 1))
        colour = mix(self.ivory, self.red, step(self.seam, x, 0.02)) * (0.5 + 0.5 * round_off)[..., None]
        band = 1 - 0.25 * np.exp(-(((x - self.seam) / 0.03) ** 2))
        speck = 1 + 0.035 * self.noise(x * 17, y * 17)
        along = step(-self.long, x, 0.2) * step(-self.long, -x, 0.2)
        shine = self.gleam * np.exp(-(((y + 0.45 * self.radius) / 0.05) ** 2)) * along
        return colour * (band * speck)[..., None] + shine[..., None]

    def ink(self, x: Array, y: Array, distance: Array) -> Array:
        return np.broadcast_to(np.array([0.30, 0.24, 0.24]), (*x.shape, 3))


class Board:
    """Populated circuit board of a fixed design; a component is missing or lies askew."""

    def __init__(self, rng: Generator):
        self.noise, self.weave = Noise(rng), Noise(rng, 128)
        self.green = np.array([0.16, 0.38, 0.26]) * rng.uniform(0.88, 1.12)
        self.track = self.green * np.array([1.5, 1.3, 1.3])
        self.tin = np.array([0.70, 0.69, 0.62]) * rng.uniform(0.9, 1.1)
        self.pose = Pose(rng.normal(0, 0.03), rng.normal(0, 0.03), rng.normal(0, 0.03))
        self.play = rng.normal(0, 1, (len(LAYOUT), 3)) * (0.008, 0.008, 0.025)
        self.tone = rng.uniform(0.88, 1.12, len(LAYOUT))

    def scene(self) -> Scene:
        pads, parts = [], []
        for (kind, x, y, angle), (off_x, off_y, twist), tone in zip(LAYOUT, self.play, self.tone, strict=True):
            wide, high = SIZE[kind]
            for side in (-wide, wide):
                at_x, at_y = x + np.cos(angle) * side, y + np.sin(angle) * side
                pads.append(Part(box(0, 0, 0.045, high * 0.9), self.pad, at_x, at_y, angle, reach=0.15))
            outline = disc(0, 0, wide) if kind == "can" else box(0, 0, wide, high, radius=0.02)
            top, reach = partial(TOPS[kind], tone), np.hypot(wide, high)
            parts.append(Part(outline, top, x + off_x, y + off_y, angle + twist, reach, loose=True))
        return Scene(self.ground, box(0, 0, 0.95, 0.95), self.pose, (*pads, *parts))

    def ground(self, x: Array, y: Array) -> Array:
        u, v = self.pose.local(x, y)
        image = self.green * (1 + 0.07 * self.weave(u * 30, v * 30) + 0.07 * self.noise(u * 3, v * 3))[..., None]
        lines = np.minimum(np.abs((u + v + 0.1) % 0.34 - 0.17), np.abs(v - 0.82) + 0.01)
        return mix(image, self.track, step(-0.022, -lines, 0.02))

    def pad(self, x: Array, y: Array, distance: Array) -> Array:
        return self.tin * np.ones((*x.shape, 1))


def _chip(tone: float, x: Array, y: Array, distance: Array) -> Array:
    label = (np.abs(y) < 0.05) & (np.abs(x) < 0.12) & (np.abs(x % 0.08 - 0.04) < 0.025)
    dot = np.hypot(x + 0.14, y + 0.09) < 0.03
    value = 0.2 + 0.25 * label + 0.18 * dot + 0.06 * np.exp(-np.abs(distance) / 0.02)
    return (value * tone)[..., None] * np.array([1.0, 1.0, 1.04])


def _resistor(tone: float, x: Array, y: Array, distance: Array) -> Array:
    band = (np.abs(np.abs(x) - 0.045) < 0.014)[..., None]
    return np.where(band, np.array([0.62, 0.36, 0.16]), np.array([0.56, 0.50, 0.38])) * tone


def _diode(tone: float, x: Array, y: Array, distance: Array) -> Array:
    band = (np.abs(x - 0.06) < 0.02)[..., None]
    return np.where(band, np.array([0.7, 0.7, 0.7]), np.array([0.52, 0.2, 0.14])) * tone


def _can(tone: float, x: Array, y: Array, distance: Array) -> Array:
    value = 0.62 - 0.3 * np.exp(-np.abs(distance) / 0.025) - 0.22 * ((x < -0.05) & (distance < -0.02))
    return (value * tone)[..., None] * np.array([0.98, 1.0, 1.03])


TOPS = {"chip": _chip, "resistor": _resistor, "diode": _diode, "can": _can}  # how a component looks from above


class Gear:
    """Turned steel gear at any angle on a dark belt; a tooth or a bolt is missing, or sits wrong."""

    def __init__(self, rng: Generator):
        self.noise, self.lathe, self.belt = Noise(rng), Noise(rng, 128), Noise(rng, 128)
        self.rubber = np.array([0.25, 0.245, 0.26]) * rng.uniform(0.85, 1.15)
        self.steel = np.array([0.60, 0.61, 0.64]) * rng.uniform(0.9, 1.1)
        self.brass = np.array([0.70, 0.54, 0.26]) * rng.uniform(0.92, 1.08)
        self.sheen = rng.uniform(0, 2 * np.pi)
        self.pose = Pose(rng.normal(0, 0.03), rng.normal(0, 0.03), rng.uniform(-np.pi, np.pi))
        self.slots = rng.normal(0, 0.3, 6)

    def scene(self) -> Scene:
        teeth = self.ring(Part(box(0, 0, 0.085, 0.075, radius=0.02), self.plain, reach=0.12), 0.67, np.zeros(16))
        bolts = self.ring(Part(disc(0, 0, 0.085), self.bolt, reach=0.09), 0.41, self.slots)
        rim, hub = Part(disc(0, 0, 0.62), self.turned, shadow=0.5), Part(disc(0, 0, 0.19), self.bore, reach=0.2)
        return Scene(self.ground, disc(self.pose.x, self.pose.y, 0.72), self.pose, (*teeth, rim, hub, *bolts))

    def ring(self, part: Part, radius: float, twists: Array) -> list[Part]:
        """Copies of a part all around, each turned by a twist of its own."""
        ways = np.arange(len(twists)) * 2 * np.pi / len(twists)
        at = zip(radius * np.cos(ways), radius * np.sin(ways), ways + twists, strict=True)
        return [replace(part, x=x, y=y, angle=angle, loose=True) for x, y, angle in at]

    def ground(self, x: Array, y: Array) -> Array:
        grain = 0.16 * self.belt(x * 24, y * 24) + 0.08 * self.noise(x * 2, y * 2)
        return self.rubber * (1 + 0.1 * np.sin(x * 28) + grain)[..., None]

    def turned(self, x: Array, y: Array, distance: Array) -> Array:
        radius, way = np.hypot(x, y), np.arctan2(y, x) + self.pose.angle
        grooves = 0.09 * self.lathe(radius * 34, 0 * radius) + 0.04 * self.noise(x * 12, y * 12)
        gloss = 0.14 * np.cos(2 * (way - self.sheen)) + grooves
        return self.steel * (0.92 + gloss - 0.14 * np.exp(-np.abs(distance) / 0.03))[..., None]

    def plain(self, x: Array, y: Array, distance: Array) -> Array:
        return self.steel * (0.86 + 0.05 * self.noise(x * 20, y * 20))[..., None]

    def bore(self, x: Array, y: Array, distance: Array) -> Array:
        return self.rubber * (0.75 + 0.12 * self.belt(x * 24, y * 24))[..., None]

    def bolt(self, x: Array, y: Array, distance: Array) -> Array:
        slot = (np.abs(y) < 0.018) & (np.abs(x) < 0.07)
        return self.brass * (1 - 0.4 * slot - 0.35 * np.exp(-np.abs(distance) / 0.015))[..., None]
