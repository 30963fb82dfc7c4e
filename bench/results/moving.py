"""Brings a results folder of an earlier version up to date: options with their owners, files where they belong now."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from bench.errors import BadInput
from bench.results import stored
from bench.results.archive import Archive
from bench.schema.record import Record

# Options without an owner.
OF_THE_RUN = ("image_size", "eval", "precision", "auto_batch", "size", "backbone", "weights")


def move(root: Path) -> Iterator[str]:
    """Move every cell below `root` to the place that its spec has today, its scores along; numbers stay as they are.

    Yields a line for each that moved, and for each that could not.

    Raises:
        BadInput: if the disk does not take it.
    """
    for path in sorted(Path(root).rglob("seed-*.json")):
        name = path.relative_to(root)
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            spec = {**values["spec"], "variant": with_owners(values["spec"])}
            record = Record.of(Record.read(path) | {"spec": spec})
        except (BadInput, KeyError, TypeError, ValueError) as error:
            yield f"{name} stays: {error}"
            continue
        target = record.path(root)
        if target == path:
            continue
        if target.exists():
            yield f"{name} stays: {target.relative_to(root)} is there already"
            continue
        if (old := stored.scores_path(path)).is_file():
            with Archive(old) as archive:
                run = stored.run_of(record.spec)
                entries = [(name, run if name == "run" else archive.read(name)) for name in archive.entries]
            stored.write_stored(stored.scores_path(target), entries)
            old.unlink()
        record.write(target)
        path.unlink()
        if not any(path.parent.iterdir()):
            path.parent.rmdir()
        yield f"{name} -> {target.relative_to(root)}"


def with_owners(spec: Mapping) -> str:
    """The variant of a spec, each option with the part that it is set of: `epochs=1` as `scale.epochs=1`.

    Raises:
        BadInput: where an option could be of either part.
    """
    parts, seen = [], set()
    for part in filter(None, spec["variant"].split(",")):
        option, _, value = part.partition("=")
        if "." in option or option in OF_THE_RUN:
            parts.append(part)
            continue
        owners = [
            spec[kind]
            for kind in ("method", "detector")
            if option in spec[f"{kind}_config"] and _is(spec[f"{kind}_config"][option], value)
        ]
        owners = [owner for owner in dict.fromkeys(owners) if (owner, option) not in seen]
        if not owners or (len(owners) > 1 and spec["variant"].split(",").count(part) == 1):
            raise BadInput(f"whose option {part} is, its spec does not tell: run it again")
        seen.add((owners[0], option))
        parts.append(f"{owners[0]}.{part}")
    options = [part for part in parts if "." in part.partition("=")[0]]
    return ",".join([*sorted(options), *(part for part in parts if part not in options)])


def _is(value: object, text: str) -> bool:
    """Whether an option's value was written as `text` on the command line."""
    given = yaml.safe_load(text)
    if isinstance(value, float) and isinstance(given, str | int):
        try:
            return float(given) == value
        except ValueError:
            return False
    return given == value or text == str(value).replace("/", "_").replace(" ", "")
