"""Objects: capsule, circuit board, gear; each a pose, a ground and parts that may be missing or misplaced."""

import numpy as np

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


def capsule(rng: np.random.Generator) -> Scene:
    """Two-coloured capsule with three printed bars on a mat; a bar is missing or askew."""
    noise, mat = Noise(rng), Noise(rng, 128)
    grey = np.array([0.52, 0.54, 0.57]) * rng.uniform(0.9, 1.1)
    ivory, red = np.array([0.80, 0.74, 0.58]) * rng.uniform(0.94, 1.06), np.array([0.70, 0.26, 0.20])
    red = red * rng.uniform(0.9, 1.1)
    long, radius, seam = 0.46 * rng.uniform(0.97, 1.03), 0.29 * rng.uniform(0.97, 1.03), rng.normal(0.02, 0.02)
    gleam = rng.uniform(0.1, 0.18)

    def ground(x: Array, y: Array) -> Array:
        return grey * (1 + 0.06 * mat(x * 26, y * 26) + 0.07 * noise(x * 2.5, y * 2.5))[..., None]

    def shell(x: Array, y: Array, distance: Array) -> Array:
        round_off = np.sqrt(np.clip(1 - (1 + distance / radius) ** 2, 0, 1))
        colour = mix(ivory, red, step(seam, x, 0.02)) * (0.5 + 0.5 * round_off)[..., None]
        band = 1 - 0.25 * np.exp(-(((x - seam) / 0.03) ** 2))
        speck = 1 + 0.035 * noise(x * 17, y * 17)
        shine = gleam * np.exp(-(((y + 0.45 * radius) / 0.05) ** 2)) * step(-long, x, 0.2) * step(-long, -x, 0.2)
        return colour * (band * speck)[..., None] + shine[..., None]

    def ink(x: Array, y: Array, distance: Array) -> Array:
        return np.broadcast_to(np.array([0.30, 0.24, 0.24]), (*x.shape, 3))

    body = box(0, 0, long + radius, radius, radius=radius)
    pose = Pose(rng.normal(0, 0.05), rng.normal(0, 0.05), rng.normal(0, 0.2))
    bars = [Part(box(0, 0, 0.035, 0.12), ink, x, 0.02, 0.15, reach=0.13, loose=True) for x in (-0.44, -0.3, -0.16)]
    return Scene(ground, lambda x, y: body(*pose.local(x, y)), pose, (Part(body, shell, shadow=0.45), *bars))


def board(rng: np.random.Generator) -> Scene:
    """Populated circuit board of a fixed design; a component is missing or lies askew."""
    noise, weave = Noise(rng), Noise(rng, 128)
    green = np.array([0.16, 0.38, 0.26]) * rng.uniform(0.88, 1.12)
    track, tin = green * np.array([1.5, 1.3, 1.3]), np.array([0.70, 0.69, 0.62]) * rng.uniform(0.9, 1.1)
    pose = Pose(rng.normal(0, 0.03), rng.normal(0, 0.03), rng.normal(0, 0.03))

    def ground(x: Array, y: Array) -> Array:
        u, v = pose.local(x, y)
        image = green * (1 + 0.07 * weave(u * 30, v * 30) + 0.07 * noise(u * 3, v * 3))[..., None]
        lines = np.minimum(np.abs((u + v + 0.1) % 0.34 - 0.17), np.abs(v - 0.82) + 0.01)
        return mix(image, track, step(-0.022, -lines, 0.02))

    def pad(x: Array, y: Array, distance: Array) -> Array:
        return tin * np.ones((*x.shape, 1))

    pads, parts = [], []
    for kind, x, y, angle in LAYOUT:
        wide, high = SIZE[kind]
        for side in (-wide, wide):
            at_x, at_y = x + np.cos(angle) * side, y + np.sin(angle) * side
            pads.append(Part(box(0, 0, 0.045, high * 0.9), pad, at_x, at_y, angle, reach=0.15))
        play = rng.normal(0, 1, 3) * (0.008, 0.008, 0.025)
        colour = _package(kind, noise, rng.uniform(0.88, 1.12))
        outline = disc(0, 0, wide) if kind == "can" else box(0, 0, wide, high, radius=0.02)
        parts.append(Part(outline, colour, x + play[0], y + play[1], angle + play[2], np.hypot(wide, high), loose=True))
    return Scene(ground, lambda x, y: np.maximum(np.abs(x), np.abs(y)) - 0.95, pose, (*pads, *parts))


def _package(kind: str, noise: Noise, tone: float):
    """How the top of a component looks."""

    def chip(x: Array, y: Array, distance: Array) -> Array:
        label = (np.abs(y) < 0.05) & (np.abs(x) < 0.12) & (np.abs(x % 0.08 - 0.04) < 0.025)
        dot = np.hypot(x + 0.14, y + 0.09) < 0.03
        value = 0.2 + 0.25 * label + 0.18 * dot + 0.06 * np.exp(-np.abs(distance) / 0.02) + 0.02 * noise(x * 16, y * 16)
        return (value * tone)[..., None] * np.array([1.0, 1.0, 1.04])

    def resistor(x: Array, y: Array, distance: Array) -> Array:
        band = (np.abs(np.abs(x) - 0.045) < 0.014)[..., None]
        return np.where(band, np.array([0.62, 0.36, 0.16]), np.array([0.56, 0.50, 0.38])) * tone

    def diode(x: Array, y: Array, distance: Array) -> Array:
        return (
            np.where((np.abs(x - 0.06) < 0.02)[..., None], np.array([0.7, 0.7, 0.7]), np.array([0.52, 0.2, 0.14]))
            * tone
        )

    def can(x: Array, y: Array, distance: Array) -> Array:
        value = 0.62 - 0.3 * np.exp(-np.abs(distance) / 0.025) - 0.22 * ((x < -0.05) & (distance < -0.02))
        return (value * tone)[..., None] * np.array([0.98, 1.0, 1.03])

    return {"chip": chip, "resistor": resistor, "diode": diode, "can": can}[kind]


def gear(rng: np.random.Generator) -> Scene:
    """Turned steel gear at any angle on a dark belt; a tooth or a bolt is missing, or sits wrong."""
    noise, lathe, belt = Noise(rng), Noise(rng, 128), Noise(rng, 128)
    rubber = np.array([0.25, 0.245, 0.26]) * rng.uniform(0.85, 1.15)
    steel = np.array([0.60, 0.61, 0.64]) * rng.uniform(0.9, 1.1)
    brass, sheen = np.array([0.70, 0.54, 0.26]) * rng.uniform(0.92, 1.08), rng.uniform(0, 2 * np.pi)
    angle = rng.uniform(-np.pi, np.pi)

    def ground(x: Array, y: Array) -> Array:
        rib = 0.1 * np.sin(x * 28)
        return rubber * (1 + rib + 0.16 * belt(x * 24, y * 24) + 0.08 * noise(x * 2, y * 2))[..., None]

    def turned(x: Array, y: Array, distance: Array) -> Array:
        radius, way = np.hypot(x, y), np.arctan2(y, x) + angle
        gloss = 0.14 * np.cos(2 * (way - sheen)) + 0.09 * lathe(radius * 34, 0 * radius) + 0.04 * noise(x * 12, y * 12)
        return steel * (0.92 + gloss - 0.14 * np.exp(-np.abs(distance) / 0.03))[..., None]

    def plain(x: Array, y: Array, distance: Array) -> Array:
        return steel * (0.86 + 0.05 * noise(x * 20, y * 20))[..., None] * np.ones((*x.shape, 1))

    def bore(x: Array, y: Array, distance: Array) -> Array:
        return rubber * (0.75 + 0.12 * belt(x * 24, y * 24))[..., None]

    def bolt(x: Array, y: Array, distance: Array) -> Array:
        slot = (np.abs(y) < 0.018) & (np.abs(x) < 0.07)
        return brass * (1 - 0.4 * slot - 0.35 * np.exp(-np.abs(distance) / 0.015))[..., None]

    def round_trip(count: int) -> Array:
        return np.arange(count) * 2 * np.pi / count

    def ring(outline, colour, count: int, radius: float, reach: float, play: float) -> list[Part]:
        ways = np.arange(count) * 2 * np.pi / count
        at = [(radius * np.cos(way), radius * np.sin(way), way + rng.normal(0, play)) for way in ways]
        return [Part(outline, colour, *place, reach, loose=True) for place in at]

    teeth = ring(box(0, 0, 0.085, 0.075, radius=0.02), plain, 16, 0.67, 0.12, 0.0)
    bolts = ring(disc(0, 0, 0.085), bolt, 6, 0.41, 0.09, 0.3)
    rim, hub = Part(disc(0, 0, 0.62), turned, shadow=0.5), Part(disc(0, 0, 0.19), bore, reach=0.2)
    pose = Pose(rng.normal(0, 0.03), rng.normal(0, 0.03), angle)
    return Scene(ground, disc(pose.x, pose.y, 0.72), pose, (*teeth, rim, hub, *bolts))
