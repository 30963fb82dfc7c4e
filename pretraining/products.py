"""Random products in front of a camera, with the mask of the item: pictures to learn an image prior from.

Surfaces and things on a ground, of random materials, outlines and parts. Nothing here is drawn for a stream: no class,
no layout and no defect of a scenario.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pretraining.procedural import material, palettes

Outline = Callable[[np.ndarray, np.ndarray], np.ndarray]  # u, v (H, W) -> signed distance (H, W), negative inside


@dataclass(frozen=True)
class Piece:
    """A thing with an outline, cut out of a material and tinted; its place is in the frame of the product."""

    outline: Outline
    sheet: np.ndarray  # (side, side, 3) in 0..1
    tint: np.ndarray  # (3,)
    x: float = 0.0
    y: float = 0.0
    angle: float = 0.0  # radians
    rim: float = 0.0  # darkening towards its outline, 0..1


@dataclass(frozen=True)
class Product:
    """A class: everything that its images share. Without pieces it is a surface, and its mask the whole image."""

    ground: np.ndarray  # (side, side, 3) in 0..1
    pieces: tuple[Piece, ...]
    spin: float  # half range of its angle, radians
    play: float  # deviation of its place; the image is 2 wide

    def draw(self, rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
        """One image (size, size, 3) uint8 under its own light, and the mask of the item (size, size) bool."""
        line = (np.arange(size) + 0.5) * 2 / size - 1
        x, y = np.meshgrid(line, line)
        image, mask = _cut(rng, self.ground, size), np.zeros((size, size)) if self.pieces else np.ones((size, size))
        u, v = _turned(x - rng.normal(0, self.play), y - rng.normal(0, self.play), rng.uniform(-self.spin, self.spin))
        for piece in self.pieces:
            distance = piece.outline(*_turned(u - piece.x, v - piece.y, piece.angle))
            cover = np.clip(0.5 - distance * size / 2, 0, 1)[..., None]
            shade = 1 - piece.rim * np.exp(-np.abs(distance) / 0.05)[..., None]
            image = image + cover * (_cut(rng, piece.sheet, size) * piece.tint * shade - image)
            mask = np.maximum(mask, cover[..., 0])
        image = image * _light(rng, x, y) + rng.uniform(0.004, 0.02) * rng.standard_normal(image.shape)
        return np.rint(image.clip(0, 1) * 255).astype(np.uint8), mask > 0.5


def products(rng: np.random.Generator, count: int, materials: int, side: int) -> list[Product]:
    """`count` random products of `materials` shared sheets (side, side, 3), two thirds of them things."""
    ramps = palettes(rng, max(1, materials // 2))
    sheets = [material(rng, side, ramps[i % len(ramps)]) for i in range(materials)]
    return [_product(rng, sheets) for _ in range(count)]


def _product(rng: np.random.Generator, sheets: list[np.ndarray]) -> Product:
    ground, body = rng.integers(len(sheets), size=2)
    base = sheets[ground] * _tint(rng, 0.1)
    if rng.random() < 1 / 3:
        return Product(_calm(rng, base), (), 0.05 * rng.random(), 0.0)
    shape = int(rng.integers(len(SHAPES)))
    reach = rng.uniform(0.4, 0.85)
    rim = rng.uniform(0, 0.5)
    pieces = [Piece(SHAPES[shape](rng, reach), _calm(rng, sheets[body]), _tint(rng, 0.25), rim=rim)]
    for x, y, angle in _layout(rng, 0.6 * reach):
        kind = int(rng.integers(len(SHAPES)))
        part = SHAPES[kind](rng, rng.uniform(0.06, 0.2))
        pieces.append(Piece(part, _calm(rng, sheets[rng.integers(len(sheets))]), _tint(rng, 0.35), x, y, angle, rim))
    spin = np.pi if rng.random() < 0.4 else rng.uniform(0.02, 0.3)
    return Product(_calm(rng, base), tuple(pieces), spin, rng.uniform(0.01, 0.08))


def _layout(rng: np.random.Generator, reach: float) -> list[tuple[float, float, float]]:
    """Places and angles of the parts on a body: none, a ring, a row, or anywhere."""
    kind, count = rng.integers(4), int(rng.integers(2, 12))
    if kind == 0:
        return []
    if kind == 1:
        ways = np.arange(count) * 2 * np.pi / count
        return [(reach * np.cos(w), reach * np.sin(w), w) for w in ways]
    if kind == 2:
        return [(at, rng.uniform(-0.1, 0.1), 0.0) for at in np.linspace(-reach, reach, count)]
    return [(x, y, rng.choice([0, np.pi / 2])) for x, y in rng.uniform(-reach, reach, (count, 2))]


def _ellipse(rng: np.random.Generator, reach: float) -> Outline:
    a, b = reach, reach * rng.uniform(0.4, 1)
    return lambda u, v: (np.hypot(u / a, v / b) - 1) * min(a, b)


def _slab(rng: np.random.Generator, reach: float) -> Outline:
    a, b = reach, reach * rng.uniform(0.3, 1)
    corner = rng.uniform(0, 1) * min(a, b)

    def distance(u, v):
        p, q = np.abs(u) - a + corner, np.abs(v) - b + corner
        return np.hypot(np.maximum(p, 0), np.maximum(q, 0)) + np.minimum(np.maximum(p, q), 0) - corner

    return distance


def _lobed(rng: np.random.Generator, reach: float) -> Outline:
    lobes, depth = rng.integers(3, 9), rng.uniform(0.08, 0.3)
    return lambda u, v: np.hypot(u, v) - reach * (1 - depth + depth * np.cos(lobes * np.arctan2(v, u)))


def _ring(rng: np.random.Generator, reach: float) -> Outline:
    half = reach * rng.uniform(0.15, 0.35)
    return lambda u, v: np.abs(np.hypot(u, v) - reach + half) - half


SHAPES = (_ellipse, _slab, _lobed, _ring)


def _turned(x: np.ndarray, y: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    c, s = np.cos(angle), np.sin(angle)
    return c * x + s * y, c * y - s * x


def _cut(rng: np.random.Generator, sheet: np.ndarray, size: int) -> np.ndarray:
    row, column = rng.integers(len(sheet) - size + 1, size=2)
    return sheet[row : row + size, column : column + size]


def _calm(rng: np.random.Generator, sheet: np.ndarray) -> np.ndarray:
    """The material with another contrast: most things are plainer than most surfaces."""
    mean = sheet.mean((0, 1))
    return mean + rng.uniform(0.1, 1.3) * (sheet - mean)


def _tint(rng: np.random.Generator, spread: float) -> np.ndarray:
    return rng.uniform(0.75, 1.25) * np.exp(rng.normal(0, spread, 3))


def _light(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Lamp: strength, colour and a fall-off across the image, (H, W, 3)."""
    slope_x, slope_y = rng.normal(0, 0.04, 2)
    return rng.uniform(0.85, 1.1) * rng.normal(1, 0.01, 3) * (1 + slope_x * x + slope_y * y)[..., None]
