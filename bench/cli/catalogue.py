"""`bench list`: names, one-line descriptions and needs, read without importing anything heavy."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from shutil import get_terminal_size
from textwrap import wrap

from bench import registry
from bench.schema import stream
from bench.schema.protocol import shipped_protocols


def catalogue_listing(kind: str | None, plugins: Iterable[Path] = ()) -> str:
    """The table of one kind (methods, detectors, scenarios, protocols, papers), or all of them."""
    tables = {"methods": partial(_plugins, "method"), "detectors": partial(_plugins, "detector")}
    tables |= {"scenarios": _scenarios}
    tables |= {"protocols": lambda _: _protocols(of_papers=False), "papers": lambda _: _protocols(of_papers=True)}
    wanted = [kind] if kind else list(tables)
    return "\n\n".join(_table(name, tables[name](tuple(plugins))) for name in wanted)


def _plugins(kind: str, plugins: tuple[Path, ...]) -> Iterable[tuple[str, str, str]]:
    for entry in registry.found_entries(kind, plugins).values():
        declared = entry.declared
        if kind == "method":
            needs = f"a detector with {declared['REQUIRES']}" if declared["REQUIRES"] else "any detector"
            needs += f" (default {declared['DEFAULT_DETECTOR']})"
            needs += "".join(f"; {name.replace('_', ' ')}" for name in declared["CAPABILITIES"])
        else:
            needs = f"a backbone (paper: {declared['BACKBONE']})" if declared["BACKBONE"] else "nothing"
            needs += f"; has {', '.join(declared['TRAITS'])}"
        tuned = "".join(f"; {option or 'defaults'} tuned on: {text}" for option, text in declared["TUNED_ON"].items())
        released = f"; as its authors' code: --set {entry.name}.as_released=true" if declared["AS_RELEASED"] else ""
        yield entry.name, entry.summary, f"{needs}{tuned}{released}"


def _scenarios(plugins: tuple[Path, ...]) -> Iterable[tuple[str, ...]]:
    for one in map(stream.load_stream, stream.stream_names()):
        shape = f"{len(one.classes)} classes in {len(one.steps)} steps at {one.image_size} px"
        yield f"{one.name}@{one.version}", f"{shape}, reader {one.reader}"
    for entry in registry.found_entries("scenario", plugins).values():
        yield f"reader {entry.name}", f"needs {entry.declared['NEEDS']}"


def _protocols(*, of_papers: bool) -> Iterable[tuple[str, str, str]]:
    for one in shipped_protocols():
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
