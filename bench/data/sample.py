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
    mask: Path | tuple[Path, ...] | None  # several are united; None for an anomalous image: nobody knows where
    label: int  # 0 normal, 1 anomalous
    kind: str  # "good", or the type of defect
    inverted: bool = False  # its mask is black where the defect is
    bits: int = 16  # that the values of a 16-bit file fill; the bench finds out, for whole classes

    @property
    def masks(self) -> tuple[Path, ...]:
        """Its mask files: none, one, or the parts of one."""
        if self.mask is None:
            return ()
        return self.mask if isinstance(self.mask, tuple) else (self.mask,)
