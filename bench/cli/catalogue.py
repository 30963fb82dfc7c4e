"""`bench list`: names, one-line descriptions and needs, read without importing anything heavy."""

from collections.abc import Iterable
from pathlib import Path
from shutil import get_terminal_size
from textwrap import wrap

from bench import registry
from bench.schema import protocol, stream


def catalogue_listing(kind: str | None, plugins: Iterable[Path] = ()) -> str:
    """The table of one kind (methods, detectors, scenarios, protocols, papers), or all of them."""
    tables = {"methods": _methods, "detectors": _detectors, "scenarios": _scenarios}
    tables |= {"protocols": lambda _: _protocols(of_papers=False), "papers": lambda _: _protocols(of_papers=True)}
    wanted = [kind] if kind else list(tables)
    return "\n\n".join(_table(name, tables[name](tuple(plugins))) for name in wanted)


def _methods(plugins: tuple[Path, ...]) -> Iterable[tuple[str, str, str]]:
    for entry in registry.found_entries("method", plugins).values():
        declared = entry.declared
        needs = f"a detector with {declared['REQUIRES']}" if declared["REQUIRES"] else "any detector"
        marks = "".join(f"; {name.replace('_', ' ')}" for name in declared["CAPABILITIES"])
        told = _tuned(declared) + _released(entry)
        yield entry.name, entry.summary, f"{needs} (default {declared['DEFAULT_DETECTOR']}){marks}{told}"


def _detectors(plugins: tuple[Path, ...]) -> Iterable[tuple[str, str, str]]:
    for entry in registry.found_entries("detector", plugins).values():
        backbone = entry.declared["BACKBONE"]
        needs = f"a backbone (paper: {backbone})" if backbone else "nothing"
        told = _tuned(entry.declared) + _released(entry)
        yield entry.name, entry.summary, f"{needs}; has {', '.join(entry.declared['TRAITS'])}{told}"


def _tuned(declared: dict) -> str:
    """On what settings were tuned, where it is known."""
    return "".join(f"; {option or 'defaults'} tuned on: {text}" for option, text in declared["TUNED_ON"].items())


def _released(entry: registry.Entry) -> str:
    """How to have it as its authors' code does it, where that is told."""
    return f"; as its authors' code: --set {entry.name}.as_released=true" if entry.declared["AS_RELEASED"] else ""


def _scenarios(plugins: tuple[Path, ...]) -> Iterable[tuple[str, ...]]:
    for one in map(stream.load_stream, stream.stream_names()):
        shape = f"{len(one.classes)} classes in {len(one.steps)} steps at {one.image_size} px"
        yield f"{one.name}@{one.version}", f"{shape}, reader {one.reader}"
    for entry in registry.found_entries("scenario", plugins).values():
        yield f"reader {entry.name}", f"needs {entry.declared['NEEDS']}"


def _protocols(*, of_papers: bool) -> Iterable[tuple[str, str, str]]:
    for one in map(protocol.load_protocol, protocol.protocol_names()):
        if bool(one.paper) == of_papers:
            yield f"{one.name}@{one.version}", ", ".join(one.scenarios), one.about


def _table(title: str, rows: Iterable[tuple[str, ...]]) -> str:
    rows = list(rows)
    indent, width = " " * (4 + max((len(name) for name, *_ in rows), default=0)), get_terminal_size().columns - 1
    lines = [f"{title}:"]
    for name, *texts in rows:
        first, *rest = (line for text in texts for line in wrap(text, max(width - len(indent), 30)))
        lines += [f"  {name}".ljust(len(indent)) + first, *(indent + line for line in rest)]
    return "\n".join(lines)
