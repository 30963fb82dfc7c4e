"""Matrices R side by side as one SVG: text, the same bytes from the same numbers on every machine."""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

# Cividis, which reads alike with and without colour blindness, and in black and white.
CIVIDIS = ("00204d", "00336f", "39486b", "575c6d", "707173", "8a8779", "a69d75", "c4b56c", "e4cf5b", "ffea46")
SIDE, LEFT, TOP, GAP = 52, 78, 62, 36  # px: of a cell, beside and above a panel, between panels


@dataclass(frozen=True)
class Panel:
    """One matrix: `R` (steps, classes), NaN where nothing was tested; `learned`: step of each class, from 0."""

    title: str
    classes: Sequence[str]
    R: Sequence[Sequence[float]]
    learned: Sequence[int]

    @property
    def width(self) -> int:
        """px, with the labels of its steps; at least what the title takes."""
        return max(LEFT + SIDE * len(self.classes), 10 * len(self.title))


def drawing(panels: Sequence[Panel], measure: str = "Image AUROC", ends: tuple[float, float] = (0.4, 1.0)) -> str:
    """An SVG of the panels from left to right, on a ground of its own, so that it reads on dark pages too.

    `measure` is what their numbers are; `ends` the worst and the best of them, dark and light.
    """
    foot = f"{measure} of each class (columns) after each step (rows). Framed: just learned."
    width = max(sum(panel.width for panel in panels) + GAP * len(panels), 7 * len(foot))
    height = TOP + SIDE * max(len(panel.R) for panel in panels) + 40
    said = html.escape("; ".join(panel.title for panel in panels))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="system-ui, sans-serif" font-size="14" fill="#1c2128" role="img" aria-label="{said}">',
        f'<rect width="{width}" height="{height}" rx="8" fill="#fff"/>',
    ]
    x = 0
    for panel in panels:
        parts += [f'<g transform="translate({x} 0)">', *_panel(panel, *ends), "</g>"]
        x += panel.width + GAP
    parts.append(f'<text x="12" y="{height - 14}" font-size="12" fill="#57606a">{foot}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _panel(panel: Panel, worst: float, best: float) -> list[str]:
    parts = [f'<text x="12" y="24" font-size="17" font-weight="600">{html.escape(panel.title)}</text>']
    for c, name in enumerate(panel.classes):
        middle = LEFT + SIDE * c + SIDE // 2
        parts.append(f'<text x="{middle}" y="{TOP - 8}" font-size="12" text-anchor="middle">{html.escape(name)}</text>')
    for t, row in enumerate(panel.R):
        y = TOP + SIDE * t
        parts.append(f'<text x="{LEFT - 8}" y="{y + SIDE // 2 + 5}" text-anchor="end">step {t + 1}</text>')
        for c, value in enumerate(row):
            if not math.isnan(value):
                share = (value - worst) / (best - worst)
                parts += _cell(LEFT + SIDE * c, y, value, share, fresh=panel.learned[c] == t)
    return parts


def _cell(x: int, y: int, value: float, share: float, *, fresh: bool) -> list[str]:
    place = min(max(share, 0.0), 1.0) * (len(CIVIDIS) - 1)
    ends = [[int(CIVIDIS[i][k : k + 2], 16) for k in (0, 2, 4)] for i in (math.floor(place), math.ceil(place))]
    rgb = [round(low + (place % 1) * (high - low)) for low, high in zip(*ends, strict=True)]
    ground = "#" + "".join(f"{value:02x}" for value in rgb)
    r, g, b = ((value / 255) ** 2.2 for value in rgb)
    ink = "#000" if 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.18 else "#fff"  # contrasts more, by relative luminance
    frame = ' stroke="#000" stroke-width="3"' if fresh else ""
    inset = 3 if fresh else 1
    side = SIDE - 2 * inset
    text = f"{value:.2f}".removeprefix("0")
    return [
        f'<rect x="{x + inset}" y="{y + inset}" width="{side}" height="{side}" fill="{ground}"{frame}/>',
        f'<text x="{x + SIDE // 2}" y="{y + SIDE // 2 + 5}" text-anchor="middle" fill="{ink}">{text}</text>',
    ]
