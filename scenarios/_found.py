"""What a reader finds in a data set."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from bench.data import Sample
from bench.data.pixels import SUFFIXES


@dataclass(frozen=True)
class Found:
    """What is in a data set, what is wrong with it, what was passed over, and what each class was taken for."""

    samples: list[Sample] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)  # test images that are trained on
    clashes: list[str] = field(default_factory=list)  # two files where there is room for one: problems too
    doubtful: list[str] = field(default_factory=list)  # read, and perhaps not as it is meant

    def limited(self, limit: int | None) -> Found:
        """The same with at most `limit` training images of each class, the first by name."""
        if limit is None:
            return self
        kept, seen = [], {}
        for sample in sorted(self.samples, key=lambda sample: str(sample.image)):
            seen[sample.category] = seen.get(sample.category, 0) + (sample.split == "train")
            if sample.split == "test" or seen[sample.category] <= limit:
                kept.append(sample)
        return replace(self, samples=kept)

    def passed_over(self, folder: Path, path: Path) -> None:
        """Note something that lies where it is not looked for."""
        if path.is_dir():
            self.notes.append(f"{path} is not read: a folder has no place in {folder}")
        elif path.suffix.lower() in SUFFIXES and path.is_file():
            self.notes.append(f"{path} is not read: images have no place in {folder}")
        else:
            self.notes.append(f"{path} is no image and is not read")
