"""Writes what a foreign system may see of a scenario: training images step by step, test images without their truth."""

import json
import secrets
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import yaml

from bench import data, results
from bench.data import Arrays, rows_of
from bench.errors import BadInput
from bench.exchange.submission.reading import FORM
from bench.exchange.worker import key as keys
from bench.exchange.worker.key import Key
from bench.metrics.scoring import CALIBRATION_IMAGES
from bench.schema import stream as streams
from bench.schema.stream import Stream

SPEC = "spec.json"


def export(options) -> Iterator[str]:
    """Write the folder that the parsed command line asks for; yields a line for each thing to know.

    Raises:
        BadInput: for an unknown scenario or order, wrong data, or a folder that is in use.
    """
    folder = Path(options.to)
    if folder.exists() and any(folder.iterdir()):
        raise BadInput(f"the folder {folder} is not empty: give a new one with --to.")
    stream = streams.reorder(streams.load_stream(options.scenario), options.order)
    root = options.data and Path(options.data)
    arrays, fingerprint = data.load_arrays(stream, root, stream.image_size, options.cache, plugins=options.plugin)
    key = _key(stream, arrays)
    keys.write_key(folder, key)
    for step in range(len(stream.steps)):
        # Normal images of the step; class labels if declared; which of the images may set the threshold.
        rows = rows_of(arrays, [c for c, learned in enumerate(stream.learned_at) if learned == step], train=True)
        chosen = np.linspace(0, len(rows) - 1, min(CALIBRATION_IMAGES, len(rows)), dtype=int)
        told = {"labels": arrays.categories[rows]} if "labels" in options.capabilities else {}
        _save(folder / f"step-{step}" / "train.npz", images=arrays.images[rows], calibrate=chosen, **told)
        # Test images of all classes seen, shuffled; the class of each if declared.
        columns, places = key.shown(step)
        tests = [rows_of(arrays, [c], train=False) for c in range(len(key.classes))]
        shown = np.array([tests[c][i] for c, i in zip(columns, places, strict=True)])
        told = {"classes": columns} if "task_oracle" in options.capabilities else {}
        _save(folder / f"step-{step}" / "test.npz", images=arrays.images[shown], **told)
    results.replace(folder / FORM, _form(stream, fingerprint, options))
    spec = {
        "schema": 1,
        "scenario": f"{stream.name}@{stream.version}",
        "steps": len(stream.steps),
        "image_size": stream.image_size,
        "seed": options.seed,
        "capabilities": list(options.capabilities),
    }
    results.replace(folder / SPEC, json.dumps(spec, indent=1))  # last: what has it is whole
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    yield f"wrote {folder}: {len(stream.steps)} steps, {size:,} bytes; docs/submissions.md says what is in it"
    yield f"keep {keys.key_path(folder)} to yourself: it holds the order of the test images"


def _key(stream: Stream, arrays: Arrays) -> Key:
    counts = [len(rows_of(arrays, [c], train=False)) for c in range(len(stream.classes))]
    names, learned = list(stream.classes), list(stream.learned_at)
    return Key(secrets.randbits(63), stream.image_size, names, learned, counts)


def _save(path: Path, **arrays: np.ndarray) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **arrays)
    except OSError as error:
        raise BadInput(f"{path} was not written ({error.strerror}): free some space or choose another --to.") from error


def _form(stream: Stream, fingerprint: str, options) -> str:
    blank = dict.fromkeys(("method", "detector", "author", "reference"), "")
    known = {"scenario": f"{stream.name}@{stream.version}", "order": stream.order, "seed": options.seed}
    known |= {"fingerprint": fingerprint, "capabilities": list(options.capabilities)}
    return yaml.safe_dump(blank | known, sort_keys=False)
