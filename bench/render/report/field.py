"""The rows of a board, and their accuracy against carried bytes as a drawing that needs no script: tiers are coloured,
each with a marker of its own."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.analysis.figures import FIGURES
from bench.analysis.rows import Row
from bench.schema.metric import METRICS

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 420, 58, 16, 14, 50  # px
KINDS = {"1": "tier 1", "2": "tier 2", "few": "too few runs for a tier", "out": "not ranked: reads ahead, external …"}


@dataclass(frozen=True)
class Line:
    """A row of a board: one configuration."""

    row: Row
    href: str
    tier: str  # on its detector, as in the leaderboard

    @property
    def seeds(self) -> str:
        """How many runs stand behind it, or which one is unfinished."""
        return f"seed {self.row.spec['seed']}" if self.row.status else str(len(self.row.cells))

    def mean(self, name: str) -> float:
        """A figure over seeds; missing where it would mix the times of several machines."""
        mixed = name in FIGURES and FIGURES[name].of_machine and len(self.row.devices) > 1
        return float("nan") if mixed else self.row.stat(name).mean


@dataclass(frozen=True)
class Point:
    """One row: px, and what is told of it."""

    x: float
    y: float
    kind: str  # a key of KINDS
    href: str
    text: str
    label: str  # of those that no other beats at as few bytes; else ""


@dataclass(frozen=True)
class Field:
    """Points with their axes, in px of a drawing of WIDTH x HEIGHT; empty where nothing was measured."""

    points: list[Point]
    bytes_ticks: list[tuple[float, str]]  # (x, MB)
    score_ticks: list[tuple[float, str]]  # (y, image AUROC)
    chance: float | None  # y
    front: str  # path of the steps that those on the front make

    @property
    def kinds(self) -> dict[str, str]:
        """Those that occur, for the legend."""
        return {kind: text for kind, text in KINDS.items() if any(point.kind == kind for point in self.points)}


def field(lines: Sequence[Line]) -> Field:
    """Final image AUROC over the logarithm of carried MB; 0, which has none, stands a decade left of the least."""
    measured = [(line, line.mean("carried_mb"), line.mean("final_image_auroc")) for line in lines]
    known = [(line, mb, auroc) for line, mb, auroc in measured if mb == mb and auroc == auroc]
    if not known:
        return Field([], [], [], None, "")
    least = min((mb for _, mb, _ in known if mb > 0), default=1.0)
    most = max(max(mb for _, mb, _ in known), 10 * least)
    zero, end = math.floor(math.log10(least)) - 1, math.ceil(math.log10(most))
    low, high = (math.floor(20 * min(a for *_, a in known)) / 20, math.ceil(20 * max(a for *_, a in known)) / 20)
    high = high if high > low else low + 0.05

    def x(mb: float) -> float:
        place = math.log10(mb) if mb > 0 else zero
        return round(LEFT + 14 + (place - zero) / (end - zero) * (WIDTH - LEFT - RIGHT - 28), 1)

    def y(auroc: float) -> float:
        return round(HEIGHT - BOTTOM - (auroc - low) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)

    joined = ranked(line.tier for line, *_ in known)
    front, best = [], -math.inf
    for line, mb, auroc in sorted((t for t in known if t[0].tier in joined), key=lambda t: (t[1], -t[2])):
        if auroc > best:
            best = auroc
            front.append((id(line), x(mb), y(auroc)))
    ahead = {number for number, *_ in front}
    points = [
        Point(
            x(mb), y(auroc), _kind(line.tier), line.href,
            f"{line.row.short} + {line.row.spec['detector']}: {auroc:.3f}, {mb:.3g} MB",
            f"{line.row.short} + {line.row.spec['detector']}" if id(line) in ahead else "",
        )
        for line, mb, auroc in known
    ]  # fmt: skip
    steps = round((high - low) / 0.05)
    every = 0.05 if steps <= 8 else 0.1
    first = math.ceil(round(low / every, 6)) * every
    scores = [first + every * i for i in range(int((high - first) / every + 1e-6) + 1)]
    ticks = [(x(0), "0"), *((x(10**k), f"{10**k:g}") for k in range(zero + 1, end + 1))]
    path = "".join(f"H{px}V{py}" if i else f"M{px} {py}" for i, (_, px, py) in enumerate(front))
    chance = METRICS["image_auroc"].chance
    # What matters most is drawn last, on top.
    points.sort(key=lambda point: ("out", "few", "2", "1").index(point.kind) + 10 * bool(point.label))
    return Field(points, ticks, [(y(s), f"{s:.2f}") for s in scores], y(chance) if low < chance < high else None, path)


def ranked(tiers: Iterable[str]) -> set[str]:
    """Of the tiers of a board, those whose rows the line joins: 1 and 2, or where there are none, too few runs."""
    kinds = {tier: _kind(tier) for tier in tiers}
    wanted = {"1", "2"} if {"1", "2"} & set(kinds.values()) else {"few"}
    return {tier for tier, kind in kinds.items() if kind in wanted}


def _kind(tier: str) -> str:
    return tier if tier in KINDS else "few" if tier.endswith(("run", "runs")) else "out"
