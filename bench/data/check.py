"""The check of a data folder: what is in it, what is wrong with it, and which streams can run on it."""

from __future__ import annotations

import shlex
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from os.path import isdir
from pathlib import Path
from types import ModuleType

from bench import registry
from bench.data.arrays import writable
from bench.data.decoding import Progress, inverted, with_bits
from bench.data.fingerprint import fingerprint, repeated
from bench.data.listing import gaps, item
from bench.data.near_duplicates import twins
from bench.data.pixels import turned
from bench.data.sample import Item
from bench.data.seen import look_at_items
from bench.errors import BadInput
from bench.schema import stream as streams

KINDS = ("mvtec", "visa", "folder")
SHOWN = 20  # lines of a list in text, so that a thousand trifles do not hide the rest; JSON has all
SIZE = 256  # px
MY_STREAM = "my-stream.yaml"


@dataclass
class Report:
    """What a check found, the serious first. `leaks`, `wrong` and `missing` are problems, the rest is for the eye."""

    root: str
    reader: str
    images: int
    table: list[dict]  # of each class: counts of images, good masks, kinds of defects
    taken: list[str] = field(default_factory=list)  # what each class was taken for
    leaks: list[str] = field(default_factory=list)  # test images that are training images
    wrong: list[str] = field(default_factory=list)  # pixels or labels that are not, or may not be, what they should be
    missing: list[str] = field(default_factory=list)
    alike: list[str] = field(default_factory=list)  # test images far nearer to a training image than those are
    trivial: list[str] = field(default_factory=list)  # differs from the official data set, or was taken as it is
    passed_over: list[str] = field(default_factory=list)  # lies in the folder and is not read
    too_small: list[str] = field(default_factory=list)  # what is left of the defects at `size`
    size: int = SIZE
    streams: list[str] = field(default_factory=list)
    fingerprint: str = ""
    stream_file: str = ""
    writes: str = ""  # the command that writes the stream file; empty once it is written
    command: str = ""

    @property
    def has_problems(self) -> bool:
        """Whether a number from these data would not be what it seems."""
        return bool(self.leaks or self.wrong or self.missing)

    def __str__(self) -> str:
        from tabulate import tabulate

        following = " && ".join(filter(None, (self.writes, self.command)))
        parts = [
            f"{self.root}: {self.reader}, {_number(len(self.table), 'class')}, {_number(self.images, 'image')}",
            "\n".join(self.taken),
            tabulate(self.table, "keys", "simple"),
            _lines("leaks from training to test", self.leaks, None),
            _lines("wrong pixels or labels", self.wrong, None),
            _lines("missing", self.missing, None),
            _lines("nearly training images", self.alike),
            _lines(f"defects at {self.size} px", self.too_small, None),
            _lines("warnings", self.trivial),
            _lines("not read", self.passed_over),
            _lines("streams that run on it", self.streams, None),
            f"fingerprint of all of it: {self.fingerprint}",
            f"a stream of its own:\n\n{self.stream_file}\nnext: {following}",
        ]
        return "\n\n".join(part for part in parts if part)

    def json(self) -> dict:
        """All of it, no list cut."""
        return asdict(self) | {"problems": self.has_problems}


def check_data(
    root: Path,
    reader: str | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
    size: int = SIZE,
    options: Mapping | None = None,
) -> Report:
    """The report on a data folder; every image and mask in it is decoded once.

    `reader` is mvtec, visa or folder; None finds out. `cache` keeps the hashes of the files for the next time.
    `size` (px) is the one at which defects may vanish. `options` are the reader's.
    Raises BadInput if there is nothing to report on: no such folder, one of the wrong level, or one without a class.
    """
    if cache is None:
        with tempfile.TemporaryDirectory() as folder:
            return check_data(root, reader, Path(folder), progress, size, options)
    root, cache, options = Path(root).expanduser(), writable(cache), dict(options or {})
    kind, names, found, items = read_folder(root, reader, options)
    items, depths = with_bits(items)
    seen = look_at_items(items, size, progress)
    lacking = [f"Class {name!r} has no {words} images" for name in names for words in gaps(found.samples, name)]
    copies = repeated(items, cache)
    alike = [pair for pair in twins(items, seen.small) if pair[0] not in dict(copies)]
    report = Report(str(root), kind, len(items), _table(items, names, seen.bad), _merged(found.taken), size=size)
    report.leaks = [f"the test image {test} is the training image {train}" for test, train in copies]
    report.alike = [f"the test image {test} nearly is the training image {train}" for test, train in alike]
    report.wrong = [*seen.bad.values(), *found.clashes, *inverted(seen.odd), *found.doubtful]
    report.missing = [*lacking, *found.problems]
    report.trivial = [
        f"{row['class']} has one training image: detectors that estimate how good ones vary fail on it"
        for row in report.table
        if row["train"] == 1
    ]
    report.trivial += [*_unofficial(items, names, _module(kind)), *depths, *_turned(items)]
    report.passed_over = [*([] if kind == "visa" else _module("folder").unread(root)), *found.notes]
    report.too_small = [
        f"{name}: {seen.defects_lost[name]} of {seen.defects[name]} defects and the whole mask of "
        f"{seen.images_lost[name]} images vanish: choose a larger --image-size, or pixel metrics leave them out"
        for name in names
        if seen.defects_lost[name]
    ]
    report.streams = _runnable(items, names, kind, cache)
    report.fingerprint = fingerprint(items, cache)
    report.stream_file = _stream_file(names, kind, size, options)
    how = {"--reader": reader, "--masks": options.get("masks"), "--image-size": None if size == SIZE else str(size)}
    given = [word for option, value in how.items() if value for word in (option, value)]
    report.writes = shlex.join(["python", "-m", "bench", "data", "check", str(root), *given, "--stream", MY_STREAM])
    report.command = (
        f"python -m bench run --methods finetune,replay,joint --scenario {MY_STREAM} --data {shlex.quote(str(root))}"
    )
    return report


def read_folder(root: Path, reader: str | None, options: dict) -> tuple[str, list[str], object, list[Item]]:
    """(reader, classes, what it found, the items) of a folder; raises BadInput as `check_data` does."""
    kind = _kind(root, reader)
    module = _module(kind)
    names = module.classes(root)
    found = module.walk(root, names, options)
    return kind, names, found, [item(sample, root, module, {}) for sample in found.samples]


def _kind(root: Path, kind: str | None) -> str:
    """The reader for a folder, found by what is in it unless given."""
    if kind not in (None, *KINDS):
        raise BadInput(f"The reader {kind!r} reads no folder that can be checked: use {', '.join(KINDS)}.")
    visa, mvtec, folder = map(_module, ("visa", "mvtec", "folder"))

    def holds(path: Path) -> bool:
        return isdir(path) and (visa.holds(path) or bool(folder.classes(path)))

    folder.locate(root, holds, folder.NEEDS)
    if not holds(root):
        raise BadInput(f"There is no class in {root}: this needs {folder.NEEDS}, or VisA as unpacked.")
    if kind or visa.holds(root):
        return kind or "visa"
    return "mvtec" if set(mvtec.classes(root)) <= set(mvtec.OFFICIAL) else "folder"


def _module(name: str) -> ModuleType:
    return registry.find_entry("scenario", name).load()


def _table(items: Sequence[Item], names: Sequence[str], bad: dict[int, str]) -> list[dict]:
    rows = []
    for name in names:
        mine = [(index, each.sample) for index, each in enumerate(items) if each.sample.category == name]
        count = Counter((sample.split, sample.label) for _, sample in mine)
        defects = [(index, sample) for index, sample in mine if sample.label]
        rows.append(
            {
                "class": name,
                "train": count["train", 0],
                "test good": count["test", 0],
                "test anomalous": len(defects),
                "good masks": sum(bool(sample.masks) and index not in bad for index, sample in defects),
                "defects": ", ".join(sorted({sample.kind for _, sample in defects})) or "—",
            }
        )
    return rows


def _unofficial(items: Sequence[Item], names: Sequence[str], module: ModuleType) -> list[str]:
    """Where a data set differs from the official one: its numbers then compare with no printed table."""
    official = getattr(module, "OFFICIAL", {})
    count = Counter((each.sample.category, each.sample.split) for each in items)
    lines = [f"{name} is not here" for name in official if name not in names]
    lines += [f"{name} is not one of the official classes" for name in names if official and name not in official]
    for name in set(names) & set(official):
        for split, wanted in zip(("train", "test"), official[name], strict=True):
            if count[name, split] != wanted:
                lines.append(f"{name} has {count[name, split]} {split} images, officially {wanted}")
    return sorted(lines)


def _turned(items: Sequence[Item]) -> list[str]:
    """Classes whose images are shown otherwise than they are stored."""
    count = Counter(
        each.sample.category
        for each in items
        if isinstance(each.sample.image, Path)
        and each.sample.image.suffix.lower() in (".jpg", ".jpeg", ".tif", ".tiff", ".webp")
        and turned(each.sample.image)
    )
    return [f"{name}: {number} images are turned upright by their EXIF orientation" for name, number in count.items()]


def _merged(lines: Sequence[str]) -> list[str]:
    """Lines `class: what it was taken for`, with all classes that were taken for the same in one."""
    classes = {}
    for line in lines:
        name, colon, rest = line.partition(": ")
        classes.setdefault(rest if colon else "", []).append(name)
    return [
        line for line in (*classes.pop("", []), *(f"{', '.join(names)}: {rest}" for rest, names in classes.items()))
    ]


def _runnable(items: Sequence[Item], names: Sequence[str], kind: str, cache: Path) -> list[str]:
    readers = {"visa": ("visa",)}.get(kind, ("folder", "mvtec"))
    lines, known = [], {}
    for stream in map(streams.load_stream, streams.stream_names()):
        classes = frozenset(stream.classes)
        if stream.reader in readers and classes <= set(names) and not stream.options:
            if classes not in known:
                known[classes] = fingerprint([each for each in items if each.sample.category in classes], cache)
            lines.append(f"{stream.name}@{stream.version}  fingerprint {known[classes][:16]}")
    return lines


def _stream_file(names: Sequence[str], kind: str, size: int, options: dict) -> str:
    """A manifest that runs on the folder, one class per step, in order of their names."""
    import yaml

    content = {"version": 1, "reader": kind, "image_size": size, "source": "my own data"}
    if options:
        content["options"] = options
    content["steps"] = [[name] for name in names]
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None)


def _number(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}{'es' if word.endswith('s') else 's'}"


def _lines(title: str, lines: Sequence[str], limit: int | None = SHOWN) -> str:
    if not lines:
        return f"{title}: none"
    shown = lines if limit is None else lines[:limit]
    more = [f"  and {len(lines) - len(shown)} more: --json lists them"] if len(lines) > len(shown) else []
    return "\n".join([f"{title}: {len(lines)}", *(f"  {line}" for line in shown), *more])
