"""`bench score`: every metric of a finished cell anew, from its stored scores and maps; nothing is run."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from bench import data, results
from bench.errors import BadInput
from bench.metrics.ranking import METRIC_VERSION
from bench.metrics.scoring import PIXEL_METRICS, Rows, Truth
from bench.render import leaderboard
from bench.render.show import find_cells
from bench.results import stored
from bench.schema import stream as streams
from bench.schema.cell import RAW_ERROR
from bench.schema.record import Record
from bench.schema.stream import Stream


def score(options) -> Iterator[str]:
    """Re-score the cells that the parsed command line names; yields a line for each, then the tables written.

    Raises:
        BadInput: for a cell without stored scores, other data than it was run on, or pixel metrics of another version
            without maps to make them anew.
    """
    known: dict[tuple, tuple[Stream, Truth]] = {}
    with results.lock(options.results):
        for path in find_cells(options.cell, options.results):
            cell = results.read(path)
            if cell["status"] != "ok":
                yield f"{path}: {cell['status']}, so left as it is"
                continue
            identity = tuple(cell["spec"][key] for key in ("scenario", "order", "image_size", "fingerprint"))
            if identity not in known:
                known[identity] = truth_of(cell["spec"], options)
            new = rescored(path, cell, *known[identity], images_only=options.images_only)
            results.rewrite(path, new)
            moved = {}  # by matrix, how far the numbers are at most from what they were
            for name, matrix in new["matrices"].items():
                before = np.array(cell["matrices"].get(name, np.full(np.shape(matrix), np.nan)), float)
                distance = np.abs(np.array(matrix, float) - before)
                moved[name] = 0.0 if np.isnan(distance).all() else float(np.nanmax(distance))
            most = max(moved, key=moved.get)
            told = f"numbers moved by {moved[most]:.2g} at most ({most})" if moved[most] else "no number moved"
            yield f"{path}: metrics version {METRIC_VERSION}, {told}"
        for path in leaderboard.write_leaderboard(options.results):
            yield f"wrote {path}"


def truth_of(spec: Mapping, options) -> tuple[Stream, Truth]:
    """The stream that a cell of `spec` was run on, and the truth of its test images.

    Raises:
        BadInput: if the stream has changed since, or the data that the options give are others.
    """
    stream = streams.reorder(streams.load_stream(options.scenario or spec["scenario"]), spec["order"])
    if stream.version != spec["scenario_version"] or list(stream.classes) != spec["classes"]:
        raise BadInput(
            f"the cell was run on {spec['scenario']}@{spec['scenario_version']}, which is at version {stream.version} "
            "here or has other classes: run it again."
        )
    arrays, _ = data.load_known(stream, spec["image_size"], spec["fingerprint"], options)
    return stream, Truth(arrays, len(stream.classes))


def rescored(path: Path, cell: Record, stream: Stream, truth: Truth, *, images_only: bool = False) -> Record:
    """The cell with every metric made anew; cost and environment stay, and so do pixel metrics of this version
    where there are no maps to make them from.

    Raises:
        BadInput: if its scores are absent, incomplete or another run's.
    """
    if not stored.scores_path(path).is_file():
        raise BadInput(f"there are no scores beside {path}: run the cell again with --redo all, which stores them.")
    held = stored.read_stored(stored.scores_path(path))
    if held.run != stored.run_of(cell["spec"]) or held.steps != len(stream.steps):
        raise BadInput(f"{held.path} is of another run or of fewer steps: run the cell again with --redo all.")
    known = cell.get("stored", {}).get("sha256")  # the scores must be those that the cell's numbers came from
    if known and stored.checksum(held.path) != known:
        raise BadInput(
            f"{held.path} is not the file that the cell was written with (other SHA-256): put that file back, or run "
            "the cell again with --redo all."
        )
    classes, R = cell["spec"]["classes"], np.array(cell["matrices"]["image_auroc"], float)
    for step, column in zip(*np.nonzero(~np.isnan(R)), strict=True):
        if (int(step), classes[column]) not in held.scores:
            raise BadInput(
                f"{held.path} lacks the scores of the class {classes[column]!r} after step {step}, which the cell has "
                "numbers of: run the cell again with --redo all."
            )
    old = cell["spec"]["metric_version"]
    if not (held.scales or images_only or old == METRIC_VERSION):
        raise BadInput(
            f"{path} has no maps, so its pixel metrics of version {old} cannot become version {METRIC_VERSION}: "
            "run it again with --save-maps, or leave them empty with --images-only."
        )
    rows = tabulate(held, stream, truth)
    kept = {RAW_ERROR}  # no metric: the detector told it
    if not held.scales and old == METRIC_VERSION:
        kept.update(PIXEL_METRICS)
        rows.pooled["pixel_auroc"] = np.array(cell["pooled"]["pixel_auroc"], float)
    old_first = {name: rows.matrices.get(name, np.full_like(R, np.nan, float)) for name, R in cell["matrices"].items()}
    rows.matrices = old_first | rows.matrices
    rows.matrices |= {name: np.array(R, float) for name, R in cell["matrices"].items() if name in kept}
    spec = cell["spec"] | {"metric_version": METRIC_VERSION}
    return cell | results.plain(rows.record()) | {"spec": spec, "key": results.key_of(spec)}


def tabulate(held: stored.StoredScores, stream: Stream, truth: Truth) -> Rows:
    """All rows from all that was stored."""
    rows = Rows(stream, truth)
    for step in range(held.steps):
        if judged := held.judged(step, stream.classes):
            rows.enter(step, judged, held.held_out(step, stream.classes))
    return rows
