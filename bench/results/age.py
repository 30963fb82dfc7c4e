"""Whether a result was measured with the code that lies here, and several with the same."""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from bench import __version__, registry
from bench.errors import BadInput
from bench.registry.source import source_digest
from bench.schema import stream


def older_code(record: Mapping[str, Any]) -> bool:
    """Whether the project's own method, detector or reader was another when `record` was measured, or nobody wrote
    down which. What is not the project's is not judged: plugins and streams of one's own, scores from elsewhere."""
    if "external" in record["spec"]:
        return False
    return record.get("code") is None or bool(other_parts(record))


def other_parts(record: Mapping[str, Any]) -> list[str]:
    """Which of the project's own parts (method, detector, scenario, bench) are no longer what `record` tells."""
    spec, code = record["spec"], record["code"]
    own = [kind for kind in registry.FOLDERS if kind not in spec.get("plugin_code", {})]
    now = {kind: digest_here(kind, spec[kind]) for kind in own} | {"bench": __version__}
    return [kind for kind, digest in now.items() if digest is not None and code[kind] != digest]


def differing_versions(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """What decides numbers and is not the same in all of `records`, as far as they tell: libraries with their versions,
    and which part of the code."""
    records = list(records)
    libraries = [record["environment"].get("versions") or {} for record in records]
    codes = [record["code"] for record in records if record.get("code")]
    told = {name: sorted({str(one[name]) for one in libraries if name in one}) for one in libraries for name in one}
    parts = {kind for code in codes for kind in code if code[kind] != codes[0][kind]}
    lines = [f"{name} {' and '.join(versions)}" for name, versions in sorted(told.items()) if len(versions) > 1]
    return lines + [f"the code of {kind}" for kind in sorted(parts)]


@cache
def digest_here(kind: str, name: str) -> str | None:
    """`source_digest` of the project's own file of that name, or of the readers of a stream; None where there is none.

    It is read once in the life of a process.
    """
    try:
        names = stream.load_stream(name).reader.split("+") if kind == "scenario" else [name]
        return "+".join(source_digest(_entries(kind)[each]) for each in names)
    except (BadInput, KeyError):
        return None


@cache
def _entries(kind: str) -> dict[str, registry.Entry]:
    return registry.found_entries(kind)
