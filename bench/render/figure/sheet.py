"""A contact sheet: rows of pictures under named columns, as one PNG."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bench.errors import BadInput

CELL = 1.3  # inches per picture
COLOURS = "cividis"  # reads the same with every kind of colour vision


def write_sheet(path: Path, title: str, rows: Sequence[str], columns: Mapping[str, Sequence[np.ndarray]]) -> Path:
    """Draw `columns` (each one picture per row: (H, W, 3) or (H, W), pictures of one column sharing a scale).

    Raises:
        BadInput: if the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    size = (CELL * len(columns) + 1.2, CELL * len(rows) + 0.6)
    canvas = Figure(figsize=size, dpi=120, layout="constrained")
    FigureCanvasAgg(canvas)
    canvas.suptitle(title, fontsize=8)
    axes = canvas.subplots(len(rows), len(columns), squeeze=False)
    for (name, pictures), column in zip(columns.items(), axes.T, strict=True):
        low, high = min(map(np.min, pictures)), max(map(np.max, pictures))
        column[0].set_title(name, fontsize=7)
        for ax, picture in zip(column, pictures, strict=True):
            ax.imshow(picture, cmap=COLOURS, vmin=low, vmax=high, interpolation="nearest")
            ax.set(xticks=[], yticks=[])
    for ax, label in zip(axes[:, 0], rows, strict=True):
        ax.set_ylabel(label, fontsize=7)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        canvas.savefig(path)
    except OSError as error:
        raise BadInput(f"{path} was not written ({error.strerror}): give another folder with --out.") from error
    return path
