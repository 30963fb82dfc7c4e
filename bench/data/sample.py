"""One image of a data set: as a reader lists it, and with its place in the listing of a stream."""

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal, NamedTuple

TEST_SHARE = 4  # where nothing says what to test on, every so many-th normal image is


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


class Item(NamedTuple):
    """A sample, with what its place in the listing and its fingerprint hang on."""

    sample: Sample
    place: str  # path below the root of its data set, or the key of a rendered image
    reader: ModuleType
    recipe: str  # version and options of the reader's own decoder, or an inverted mask; "" where the file alone decides
