"""One image of a data set, as a reader lists it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Sample:
    """One image of a data set, as a reader lists it.

    `image` is a path, or a text key if the reader renders the image itself: then its module has
    `decode(sample, size)`, and the key says everything that decides the pixels.
    """

    category: str
    split: Literal["train", "test"]
    image: Path | str
    mask: Path | None
    label: int  # 0 normal, 1 anomalous
    kind: str  # "good", or the type of defect
