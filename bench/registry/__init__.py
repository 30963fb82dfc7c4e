"""Finds methods, detectors and scenario readers: the file is the registration, its name is the name.

Nothing is imported to list them: descriptions and declarations are read from the source with `ast`.
"""

import difflib
import importlib.util
from collections.abc import Iterable
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

from bench.errors import BadInput
from bench.registry.declarations import kind_of
from bench.registry.entry import Entry

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {"method": "methods", "detector": "methods/detectors", "scenario": "scenarios"}


def found_entries(kind: str, plugins: Iterable[Path] = ()) -> dict[str, Entry]:
    """Every method, detector or scenario reader by name: built in, from entry points, and files given with --plugin.

    Raises:
        BadInput: if two files claim one name.
    """
    found, folder = [], FOLDERS[kind]
    for path in sorted((ROOT / folder).iterdir()):
        file = path / "__init__.py" if path.is_dir() else path
        own = file.suffix == ".py" and file.is_file() and not path.stem.startswith("_")
        if own and path.name not in ("detectors",):
            found.append(Entry(kind, path.stem, file, f"{folder.replace('/', '.')}.{path.stem}"))
    found += _installed(kind)
    for plugin in plugins:
        path = Path(plugin).resolve()
        if not path.is_file():
            raise BadInput(f"no plugin file {str(plugin)!r}; give the path of a Python file.")
        entry = Entry(kind, path.stem, path, "")
        if kind_of(entry.tree, path) == kind:
            found.append(entry)
    entries: dict[str, Entry] = {}
    for entry in found:
        other = entries.setdefault(entry.name, entry)
        if other.file != entry.file:
            raise BadInput(f"two {kind}s are called {entry.name!r}: {other.file} and {entry.file}; rename one.")
    return entries


def find_entry(kind: str, name: str, plugins: Iterable[Path] = ()) -> Entry:
    """One entry by name.

    Raises:
        BadInput: if there is none, with the nearest name and all known ones.
    """
    entries = found_entries(kind, plugins)
    if name not in entries:
        raise BadInput(unknown(kind, name, entries))
    return entries[name]


def default_size(reader: str, plugins: Iterable[Path] = ()) -> str:
    """tiny where the readers (joined by +) need no data set, paper elsewhere."""
    needs = {find_entry("scenario", name, plugins).declared["NEEDS"] for name in reader.split("+")}
    return "tiny" if needs == {"nothing"} else "paper"


def unknown(thing: str, name: str, known: Iterable[str]) -> str:
    """The sentence for a name that does not exist."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"no {thing} {name!r}.{hint} Known: {', '.join(known)}."


@cache
def _installed(kind: str) -> tuple[Entry, ...]:
    """Of other packages; to look for them opens a file of each that is installed."""
    entries = []
    for point in entry_points(group=f"bench.{kind}s"):
        spec = importlib.util.find_spec(point.module)
        if spec is None or spec.origin is None:
            raise BadInput(
                f"entry point {point.name!r} of bench.{kind}s names no module {point.module!r}; reinstall it."
            )
        entries.append(Entry(kind, point.name, Path(spec.origin), point.module))
    return tuple(entries)


def default_detector(method: Entry, plugins: Iterable[Path] = ()) -> str:
    """The name of the detector that a method runs with unless told otherwise. Raises BadInput if there is none."""
    name, detectors = method.declared["DEFAULT_DETECTOR"], found_entries("detector", plugins)
    if name not in detectors:
        line = method.line_of("DEFAULT_DETECTOR")
        raise BadInput(f"{method.file}:{line}: DEFAULT_DETECTOR: {unknown('detector', name, detectors)}")
    return name


def misfit(method: Entry, detector: Entry, precision: str = "float32") -> str:
    """Why a method makes no sense on a detector, or the detector none in `precision`; "" where they go together."""
    wanted, traits = method.declared["REQUIRES"], detector.declared["TRAITS"]
    if wanted is not None and wanted not in traits:
        has = ", ".join(traits) or "none of the traits"
        return f"{method.name} needs a detector with {wanted}; {detector.name} has {has}"
    if precision != "float32" and precision not in traits:
        return (
            f"--precision {precision}: {detector.name} computes in float32 only; "
            f"`bench list detectors` names those that have {precision}"
        )
    return ""
