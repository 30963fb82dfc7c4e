"""The key to an export, kept beside its folder: in which order the test images were shown. The system never sees it."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from bench import results
from bench.errors import BadInput


@dataclass(frozen=True)
class Key:
    """What it takes to put shuffled answers back in the order of the data set."""

    shuffle: int  # seed of the order; drawn anew for each export
    image_size: int
    classes: list[str]
    learned_at: list[int]
    counts: list[int]  # test images of each class

    @property
    def steps(self) -> int:
        return max(self.learned_at) + 1

    def shown(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """(class, place among its test images) of each test image of a step, in the order shown."""
        seen = [c for c, learned in enumerate(self.learned_at) if learned <= step]
        columns = np.repeat(seen, [self.counts[c] for c in seen])
        places = np.concatenate([np.arange(self.counts[c]) for c in seen])
        order = np.random.default_rng([self.shuffle, step]).permutation(len(columns))
        return columns[order], places[order]


def key_path(folder: Path) -> Path:
    """Beside the folder, so that who hands the folder over does not hand over the key."""
    return folder.resolve().with_name(f"{folder.resolve().name}.key.json")


def write_key(folder: Path, key: Key) -> None:
    """Save the key of the export in `folder`."""
    results.replace(key_path(folder), json.dumps(asdict(key)))


def read_key(folder: Path) -> Key:
    """The key of the export in `folder`.

    Raises:
        BadInput: if it is not there or broken.
    """
    path = key_path(folder)
    try:
        return Key(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise BadInput(f"{path}, the key to the order of the images, cannot be read ({error}): export anew.") from error
