"""Figures as PDF and SVG: colours that all tell apart, and markers and dashes that do so in black and white."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from bench.analysis.rows import Row
from bench.analysis.summary import learned_at
from bench.errors import BadInput

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # Okabe and Ito
MARKERS, DASHES = "osD^vPX*<>", ("-", "--", ":", "-.")
MOST = 10  # systems that a picture of lines or matrices can hold: the first of them
STYLE = {
    "font.size": 9,
    "pdf.fonttype": 42,
    "svg.hashsalt": "bench",
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def draw(rows: Sequence[Row], stem: Path) -> list[Path]:
    """STEM-R, -steps, -carried and -stability of rows, best first. Raises BadInput where they cannot be written."""
    import matplotlib
    from matplotlib.figure import Figure

    pictures: dict[str, Callable] = {"R": _matrices, "steps": _steps, "carried": _carried, "stability": _stability}
    made = []
    with matplotlib.rc_context(STYLE):
        for name, picture in pictures.items():
            figure = Figure(figsize=(4.4, 3.6), layout="constrained")
            picture(figure, rows)
            for suffix in (".pdf", ".svg"):
                path = stem.with_name(f"{stem.name}-{name}{suffix}")
                date = (
                    {"CreationDate": None} if suffix == ".pdf" else {"Date": None}
                )  # the same bytes from the same cells
                try:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    figure.savefig(path, metadata=date)
                except OSError as error:
                    raise BadInput(
                        f"{path} cannot be written ({error.strerror}): give another folder with --to."
                    ) from error
                made.append(path)
    return made


def _name(row: Row) -> str:
    return f"{row.short} + {row.spec['detector']}"


def _mean(row: Row) -> np.ndarray:
    """R of the image AUROC, mean over seeds."""
    return np.mean([np.array(cell["matrices"]["image_auroc"], dtype=float) for cell in row.cells], axis=0)


def _matrices(figure, rows: Sequence[Row]) -> None:
    rows = rows[:MOST]
    wide = min(len(rows), 4)
    high = -(-len(rows) // wide)
    figure.set_size_inches(1.2 + 2.1 * wide, 0.6 + 2.2 * high)
    axes = figure.subplots(high, wide, squeeze=False).ravel()
    for axis in axes[len(rows) :]:
        axis.set_visible(False)
    for axis, row in zip(axes, rows, strict=False):
        R = _mean(row)
        image = axis.imshow(R, cmap="cividis", vmin=0.4, vmax=1.0, aspect="auto")
        axis.set_title(_name(row), fontsize=7)
        axis.set_xticks(range(R.shape[1]), row.spec["classes"], rotation=60, ha="right", fontsize=6)
        axis.set_yticks(range(len(R)), range(1, len(R) + 1), fontsize=6)
        if R.size <= 64:
            for (t, c), value in np.ndenumerate(R):
                if value == value:
                    ink = "black" if value > 0.7 else "white"
                    axis.text(c, t, f"{value:.2f}".lstrip("0"), ha="center", va="center", color=ink, fontsize=6)
    figure.supylabel("after step", fontsize=8)
    figure.colorbar(image, ax=axes[: len(rows)].tolist(), label="image AUROC", shrink=0.8)


def _steps(figure, rows: Sequence[Row]) -> None:
    axis = figure.subplots()
    for i, row in enumerate(rows[:MOST]):
        R, learned = _mean(row), learned_at(row.cells[0])
        seen = [R[t, learned <= t] for t in range(len(R))]
        told = [values.mean() if np.isfinite(values).all() else np.nan for values in seen]
        style = {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i], "linestyle": DASHES[i % len(DASHES)]}
        axis.plot(range(1, len(R) + 1), told, label=_name(row), markersize=4, linewidth=1.2, **style)
    axis.set(xlabel="after step", ylabel="mean image AUROC so far")
    _legend(figure)


def _carried(figure, rows: Sequence[Row]) -> None:
    axis = figure.subplots()
    _points(axis, rows, "carried_mb", "final_image_auroc")
    axis.set_xscale("symlog", linthresh=0.01)
    axis.set_xlim(left=-0.002)
    axis.set(xlabel="carried MB", ylabel="final image AUROC")
    _legend(figure)


def _stability(figure, rows: Sequence[Row]) -> None:
    axis = figure.subplots()
    _points(axis, rows, "forgetting_image_auroc", "plasticity_image_auroc")
    axis.set(xlabel="forgetting (left is stable)", ylabel="plasticity")
    _legend(figure)


def _points(axis, rows: Sequence[Row], x: str, y: str) -> None:
    for i, row in enumerate(rows[:MOST]):
        across, up = row.stat(x), row.stat(y)
        halves = [None if half != half else half for half in (across.half, up.half)]
        style = {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i], "markerfacecolor": "none" if i % 2 else None}
        axis.errorbar(
            across.mean, up.mean, xerr=halves[0], yerr=halves[1], linestyle="none", capsize=2, label=_name(row), **style
        )


def _legend(figure) -> None:
    figure.legend(loc="outside lower center", ncols=2, fontsize=6, frameon=False)
