"""`bench figure`: what a kept cell sees in test images, and what it remembers of the images it was trained on."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bench.data import rows_of
from bench.errors import BadInput
from bench.registry import unknown
from bench.render.figure import sheet
from bench.render.figure.kept import Kept, revive
from bench.render.show import find_cells
from bench.training.experiences import as_float

NORMAL, ANOMALOUS = 2, 4  # test images drawn unless told otherwise
REMEMBERED = 4  # training images whose memory is drawn


def figure(options) -> Iterator[Path]:
    """Draw the sheets that the parsed command line asks for; yield each file once it is written.

    Raises:
        BadInput: for an unknown cell, class, step or image, a cell of which nothing was kept, or a full disk.
    """
    for path in find_cells(options.cell, options.results):
        kept = revive(path, options)
        step = _step(kept, options.step)
        for column in _columns(kept, options.category):
            yield _tests(kept, column, step, options)
            yield from _memory(kept, column, options)


def _step(kept: Kept, asked: int | None) -> int:
    steps = len(kept.cell.stream.steps)
    if asked is not None and not 1 <= asked <= steps:
        raise BadInput(f"--step {asked}: {kept.cell.name} has steps 1 to {steps}.")
    return steps - 1 if asked is None else asked - 1


def _columns(kept: Kept, category: str | None) -> list[int]:
    classes = kept.cell.stream.classes
    if category is None:
        return list(range(len(classes)))
    if category not in classes:
        raise BadInput(unknown("class", category, classes))
    return [classes.index(category)]


def _tests(kept: Kept, column: int, step: int, options) -> Path:
    """Test images of a class as the detector of `step` judges them: input, reconstruction if any, map, mask."""
    strategy = kept.after(step)
    kept.show(strategy, column)
    chosen = _chosen(kept, column, options.images)
    images = _images(kept, chosen)
    with torch.no_grad():
        prediction = strategy.model.predict(images.to(strategy.device))
        restored = strategy.model.reconstruct(images.to(strategy.device))
    columns = {"input": _pictures(images)}
    if restored is not None:
        columns["reconstruction"] = _pictures(restored)
    if prediction.map is not None:
        columns["map"] = list(prediction.map[:, 0].float().cpu().numpy())
    columns["mask"] = [np.asarray(kept.arrays.masks[row]) for row in chosen]
    kinds = ["anomalous" if kept.arrays.labels[row] else "normal" for row in chosen]
    rows = [f"{kind}\n{score:.3g}" for kind, score in zip(kinds, prediction.score.tolist(), strict=True)]
    name = kept.cell.stream.classes[column]
    return sheet.write_sheet(
        _place(kept, options.out) / f"{name}.step-{step + 1}.png",
        f"{kept.cell.name}: {name} after step {step + 1}, with scores",
        rows,
        columns,
    )


def _memory(kept: Kept, column: int, options) -> Iterator[Path]:
    """Training images of a class beside what the memory makes of them, step after step."""
    learned, name = kept.cell.stream.learned_at[column], kept.cell.stream.classes[column]
    rows = rows_of(kept.arrays, [column], train=True)[:REMEMBERED]
    images = _images(kept, rows)
    columns = {"original": _pictures(images)}
    for step in (step for step in kept.steps if step >= learned):
        strategy = kept.after(step)
        with torch.no_grad():
            shown = [plugin.exhibits(images.to(strategy.device), learned) for plugin in strategy.methods]
        for title, pictures in (exhibit for exhibits in shown for exhibit in exhibits.items()):
            columns[f"{title},\nstep {step + 1}"] = _pictures(pictures)
    if len(columns) > 1:
        yield sheet.write_sheet(
            _place(kept, options.out) / f"{name}.memory.png",
            f"{kept.cell.name}: {name} in memory",
            [str(place) for place in range(len(rows))],
            columns,
        )


def _chosen(kept: Kept, column: int, asked: tuple[int, ...] | None) -> np.ndarray:
    """Rows of the test images to draw: those asked for, or a few normal and anomalous ones spread over the set."""
    rows = rows_of(kept.arrays, [column], train=False)
    if asked is None:
        labels = kept.arrays.labels[rows]
        return np.concatenate([_spread(rows[labels == 0], NORMAL), _spread(rows[labels == 1], ANOMALOUS)])
    beyond = [place for place in asked if not 0 <= place < len(rows)]
    if beyond:
        name = kept.cell.stream.classes[column]
        raise BadInput(f"--images {beyond[0]}: the test set of {name} has images 0 to {len(rows) - 1}.")
    return rows[list(asked)]


def _spread(rows: np.ndarray, count: int) -> np.ndarray:
    return rows[np.linspace(0, len(rows) - 1, min(count, len(rows)), dtype=int)]


def _images(kept: Kept, rows: np.ndarray) -> Tensor:
    return as_float(torch.from_numpy(np.stack([kept.arrays.images[row] for row in rows])))


def _pictures(images: Tensor) -> list[np.ndarray]:
    """(n, 3, H, W) in 0..1 as pictures (H, W, 3)."""
    return list(images.detach().float().clamp(0, 1).movedim(1, -1).cpu().numpy())


def _place(kept: Kept, out: Path) -> Path:
    """A folder of its own for each cell: `out/<scenario>/<method>+<detector>.../seed-k`."""
    spec = kept.cell.spec
    return out / spec["scenario"] / kept.path.parent.name / kept.path.stem
