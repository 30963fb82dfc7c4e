"""Random materials, and mosaics of them with the material of every pixel: pictures to learn features from.

Nothing here is drawn for a stream: no product, no defect, no code of a scenario.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

Field = Callable[[np.random.Generator, int], np.ndarray]  # -> (size, size), periodic or not, any range


def palettes(rng: np.random.Generator, count: int) -> list[np.ndarray]:
    """Mostly muted colour ramps (2..4, 3): fewer than materials, so that colour alone says little."""
    found = []
    for _ in range(count):
        hue = rng.uniform(0.2, 0.75) + rng.normal(0, rng.choice([0.03, 0.12]), 3)
        tones = rng.normal(0, rng.uniform(0.08, 0.3), (rng.integers(2, 5), 1))
        found.append(np.clip(hue + tones + rng.normal(0, 0.05, (len(tones), 3)), 0.03, 0.97))
    return found


def material(rng: np.random.Generator, size: int, palette: np.ndarray) -> np.ndarray:
    """One random material (size, size, 3) float32 in 0..1: a random field, or two, through a palette (stops, 3)."""
    names = list(FIELDS)
    field = _ranked(FIELDS[names[rng.integers(len(names))]](rng, size))
    if rng.random() < 0.4:
        other = _ranked(FIELDS[names[rng.integers(len(names))]](rng, size))
        field = _ranked(field + rng.uniform(0.2, 0.8) * other)
    if rng.random() < 0.3:
        field = 1 / (1 + np.exp(-(field - rng.uniform(0.3, 0.7)) * rng.uniform(8, 40)))
    at = np.linspace(0, 1, len(palette))
    return np.stack([np.interp(field, at, palette[:, c]) for c in range(3)], axis=-1).astype(np.float32)


def mosaic(rng: np.random.Generator, bank: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Leaves of materials over each other: image (size, size, 3) and the material of each pixel (size, size).

    `bank` is (materials, side, side, 3) with side > size.
    """
    image, label = np.empty((size, size, 3), bank.dtype), np.empty((size, size), np.int64)
    for leaf in range(rng.integers(1, 7)):
        which = int(rng.integers(len(bank)))
        inside = _leaf(rng, size) if leaf else np.ones((size, size), bool)
        row, column = rng.integers(bank.shape[1] - size, size=2)
        piece = bank[which, row : row + size, column : column + size]
        piece = np.rot90(piece[:: rng.choice([-1, 1])], rng.integers(4))
        image[inside], label[inside] = piece[inside], which
    return image, label


def marked(rng: np.random.Generator, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A few marks on a picture (size, size, 3) uint8: the picture, and its marks (size, size), 0 none, 1 .. 4 MARKS."""
    size = len(image)
    image, marks = image.astype(np.float32), np.zeros((size, size), np.int64)
    line = np.linspace(-1, 1, size)
    for _ in range(rng.integers(0, 4)):
        kind, angle = int(rng.integers(len(MARKS))), rng.uniform(0, np.pi)
        x, y = np.meshgrid(line - rng.uniform(-0.9, 0.9), line - rng.uniform(-0.9, 0.9))
        u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
        where = MARKS[kind](rng, u, v)
        if kind == 3:
            shift = tuple(rng.integers(size // 6, size - size // 6, 2))
            paint = np.roll(np.rot90(image, rng.integers(4)), shift, (0, 1))
        elif rng.random() < 0.5:
            paint = image * (1 + rng.choice([-1, 1]) * rng.uniform(0.12, 0.5) + rng.normal(0, 0.06, 3))
        else:
            paint = np.broadcast_to(rng.uniform(0, 255, 3), image.shape)
        image[where] += (paint - image)[where] * rng.uniform(0.4, 1.0)
        marks[where] = kind + 1
    return image.clip(0, 255).astype(np.uint8), marks


def _line(rng: np.random.Generator, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return (np.abs(v - rng.uniform(-1, 1) * u * u) < rng.uniform(0.015, 0.05)) & (np.abs(u) < rng.uniform(0.1, 0.6))


def _specks(rng: np.random.Generator, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    spots = zip(*rng.normal(0, 0.12, (2, 4)), rng.uniform(0.02, 0.07, 4), strict=True)
    return np.any([np.hypot(u - x, v - y) < radius for x, y, radius in spots], axis=0)


def _patch(rng: np.random.Generator, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    a, b, wave = rng.uniform(0.06, 0.25), rng.uniform(0.06, 0.25), rng.uniform(0, 0.3)
    return np.hypot(u / a, v / b) < 1 + wave * np.sin(rng.integers(2, 6) * np.arctan2(v, u))


def _scrap(rng: np.random.Generator, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return (np.abs(u) < rng.uniform(0.06, 0.25)) & (np.abs(v) < rng.uniform(0.06, 0.25))


MARKS = (_line, _specks, _patch, _scrap)


def _leaf(rng: np.random.Generator, size: int) -> np.ndarray:
    """A random ellipse, polygon, band or star-like outline, filled."""
    line = np.linspace(-1, 1, size)
    angle = rng.uniform(0, np.pi)
    x, y = np.meshgrid(line - rng.uniform(-0.9, 0.9), line - rng.uniform(-0.9, 0.9))
    u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    a, b = rng.uniform(0.15, 0.8, 2)
    shape = rng.integers(4)
    if shape == 0:
        return (u / a) ** 2 + (v / b) ** 2 < 1
    if shape == 1:
        return (np.abs(u) < a) & (np.abs(v) < b) & (u + v * rng.uniform(-1, 1) < a * rng.uniform(0.3, 1.5))
    if shape == 2:
        return np.abs(v - rng.uniform(-0.5, 0.5) * u * u) < 0.3 * b
    return np.hypot(u, v) < a * (1 + rng.uniform(0.1, 0.5) * np.cos(rng.integers(2, 9) * np.arctan2(v, u)))


def _ranked(field: np.ndarray) -> np.ndarray:
    low, high = np.percentile(field, (1, 99))
    return np.clip((field - low) / (high - low + 1e-9), 0, 1)


def _spectrum(rng: np.random.Generator, size: int) -> np.ndarray:
    """Noise with a random, perhaps directed, power-law spectrum."""
    fy, fx = np.meshgrid(np.fft.fftfreq(size), np.fft.rfftfreq(size), indexing="ij")
    angle, stretch = rng.uniform(0, np.pi), rng.choice([1.0, rng.uniform(1, 8)])
    u, v = np.cos(angle) * fx + np.sin(angle) * fy, np.cos(angle) * fy - np.sin(angle) * fx
    power = (np.hypot(u * stretch, v) + 1 / size) ** -rng.uniform(0.3, 2.2)
    return np.fft.irfft2(np.fft.rfft2(rng.standard_normal((size, size))) * power, s=(size, size))


def _band(rng: np.random.Generator, size: int) -> np.ndarray:
    """Noise of one wavelength: spots, labyrinths, ripples."""
    fy, fx = np.meshgrid(np.fft.fftfreq(size), np.fft.rfftfreq(size), indexing="ij")
    angle, stretch, centre = rng.uniform(0, np.pi), rng.choice([1.0, rng.uniform(1, 4)]), 1 / rng.uniform(3, 24)
    u, v = np.cos(angle) * fx + np.sin(angle) * fy, np.cos(angle) * fy - np.sin(angle) * fx
    ring = np.exp(-(((np.hypot(u * stretch, v) - centre) / (centre * rng.uniform(0.1, 0.4))) ** 2))
    field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((size, size))) * ring, s=(size, size))
    return np.abs(field) if rng.random() < 0.3 else field


def _cells(rng: np.random.Generator, size: int) -> np.ndarray:
    """Distances to the nearest of scattered points: foam, scales, rubble."""
    count = int((size / rng.uniform(5, 30)) ** 2) + 3
    points = rng.uniform(0, size, (count, 2))
    where = np.stack(np.mgrid[:size, :size], -1).reshape(-1, 2)
    distance, index = cKDTree(points).query(where, k=2)
    values = [distance[:, 0], distance[:, 1] - distance[:, 0], rng.random(count)[index[:, 0]]]
    return values[rng.integers(3)].reshape(size, size)


def _strokes(rng: np.random.Generator, size: int) -> np.ndarray:
    """Overlapping short lines: hair, felt, scribble."""
    from PIL import Image, ImageDraw

    sheet = Image.new("F", (size, size))
    draw = ImageDraw.Draw(sheet)
    angle, spread, long = rng.uniform(0, np.pi), rng.uniform(0, 1.5), rng.uniform(6, 40)
    for x, y, turn, tone in zip(*rng.uniform(-9, size + 9, (2, 500)), *rng.standard_normal((2, 500)), strict=True):
        a = angle + spread * turn
        end = (x + long * np.cos(a), y + long * np.sin(a))
        draw.line([(x, y), end], fill=float(tone), width=int(rng.integers(1, 4)))
    return np.asarray(sheet)


def _grains(rng: np.random.Generator, size: int) -> np.ndarray:
    """Discs of random size and tone over each other."""
    y, x = np.mgrid[:size, :size]
    field, biggest = np.zeros((size, size)), rng.uniform(3, 18)
    for radius in biggest * rng.power(1.5, 260):
        cy, cx = rng.uniform(0, size, 2)
        box = np.s_[max(0, int(cy - radius)) : int(cy + radius) + 2, max(0, int(cx - radius)) : int(cx + radius) + 2]
        inside = (y[box] - cy) ** 2 + (x[box] - cx) ** 2 < radius**2
        field[box][inside] = rng.standard_normal()
    return ndimage.gaussian_filter(field, rng.uniform(0.3, 1.0))


def _plasma(rng: np.random.Generator, size: int) -> np.ndarray:
    """Sums of waves bent by each other."""
    y, x = np.mgrid[:size, :size] / size
    field, bend = np.zeros((size, size)), np.zeros((size, size))
    for _ in range(rng.integers(2, 6)):
        a, b = rng.normal(0, rng.uniform(10, 60), 2)
        bend = np.sin(a * x + b * y + rng.uniform(0, 2) * bend + rng.uniform(0, 7))
        field = field + bend
    return field


FIELDS: dict[str, Field] = {
    "spectrum": _spectrum,
    "band": _band,
    "cells": _cells,
    "strokes": _strokes,
    "grains": _grains,
    "plasma": _plasma,
}
