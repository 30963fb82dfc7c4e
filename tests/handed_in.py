"""A submission to the rendered stream of `trees.MANIFEST`, right in everything, for tests to spoil."""

from pathlib import Path

import numpy as np
import yaml

from bench import data
from bench.results import stored
from bench.schema import stream as streams

CLASSES, COUNT, SIDE = ("gear", "wood"), 8, 64


def form(folder: Path, **changed) -> dict:
    """The form of a submission to mini.yaml in `folder`'s parent; a key set to None is left out."""
    stream = streams.load_stream(str(folder.parent / "mini.yaml"))
    content = {
        "method": "mine",
        "detector": "colours",
        "author": "A. Body",
        "reference": "https://example.org/paper",
        "capabilities": ["labels"],
        "scenario": "custom/mini@1",
        "order": "published",
        "seed": 0,
        "fingerprint": data.load_arrays(stream, None, SIDE, folder.parent / ".cache")[1],
        "cost": {"train_s": [1.5, 2.5], "device": "Some GPU", "ms_per_image": {"1": 4.0}},
    }
    return {key: value for key, value in (content | changed).items() if value is not None}


def arrays(seed: int = 0) -> dict[str, np.ndarray]:
    """Scores, maps, routes and calibration of both steps."""
    rng, made = np.random.default_rng(seed), {}
    for step in range(2):
        for name in CLASSES[: step + 1]:
            codes, scale = stored.quantise(rng.normal(0, 1, (COUNT, SIDE, SIDE)).astype(np.float32))
            place = f"step-{step}/{name}"
            made |= {f"{place}/scores": rng.normal(0, 1, COUNT).astype(np.float32), f"{place}/maps": codes}
            made |= {f"{place}/scale": scale, f"{place}/routes": np.full(COUNT, step, np.int32)}
        made[f"step-{step}/calibration"] = rng.normal(0, 1, 8).astype(np.float32)
    return made


def write(folder: Path, content: dict | str, values: dict[str, np.ndarray]) -> Path:
    """A submission on disk."""
    folder.mkdir(exist_ok=True)
    text = content if isinstance(content, str) else yaml.safe_dump(content)
    (folder / "submission.yaml").write_text(text)
    np.savez(folder / "scores.npz", **values)
    return folder
