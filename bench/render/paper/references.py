"""BibTeX of the methods, detectors and data sets of some rows, and of the libraries under them.

A method or detector is cited as its docstring names its paper: `Authors, Title, arXiv:NUMBER`.
"""

import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

from bench import registry
from bench.analysis.rows import Row

NAME = r"[A-Z][\w-]+(?: [A-Z][\w-]+)*"
PAPER = re.compile(
    rf"(?:^|[.:;] )(?P<authors>(?:{NAME}, )*{NAME}(?: et al\.| and {NAME})), "
    r"(?P<title>[A-Z](?:(?!et al)[^\n])*?),? (?:[A-Z]+ \d{4}, )?arXiv:(?P<number>\d{4}\.\d{4,5})"
)
LIBRARIES = {"Avalanche": "avalanche", "anomalib": "anomalib", "timm": "timm", "PyTorch": "pytorch"}
DATA = {"mvtec": "mvtec", "visa": "visa"}  # data set -> key in references.bib


def keys(rows: Iterable[Row]) -> list[str]:
    """Of all that is cited, each once."""
    return list(dict.fromkeys(key for key, _ in _entries(rows)))


def bibliography(rows: Iterable[Row]) -> str:
    """references.bib for some rows."""
    return "\n\n".join(dict(_entries(rows)).values()) + "\n"


def bibtex_key(kind: str, name: str) -> str:
    """Under which a method or detector is cited; "" where its file names no paper of arXiv."""
    return _paper(kind, name)[0]


def _entries(rows: Iterable[Row]) -> Iterable[tuple[str, str]]:
    rows = list(rows)
    used = sorted({(kind, row.spec[kind]) for row in rows for kind in ("method", "detector")})
    yield from (paper for paper in (_paper(*part) for part in used) if paper[0])
    known = _known()
    sets = {part for row in rows for part in row.spec["scenario"].partition("/")[0].split("-")}
    for key in [*(DATA[name] for name in sorted(sets & DATA.keys())), *LIBRARIES.values()]:
        yield key, known[key]


@cache
def _paper(kind: str, name: str) -> tuple[str, str]:
    """(key, entry) of what a file names; two empty texts where it names nothing."""
    entry = registry.found_entries(kind).get(name)
    found = PAPER.search(entry.description.replace("\n", " ")) if entry else None
    if not found:
        return "", ""
    authors, number = found["authors"].replace(" et al.", " and others").replace(", ", " and "), found["number"]
    key = f"arXiv:{number}"
    return key, (
        f"@article{{{key},\n  author = {{{authors}}},\n  title = {{{{{found['title']}}}}},\n"
        f"  journal = {{{key}}},\n  year = {{20{number[:2]}}},\n}}"
    )


@cache
def _known() -> dict[str, str]:
    """Entries of the file beside this one, by key."""
    text = files("bench.render.paper").joinpath("references.bib").read_text(encoding="utf-8")
    return {re.match(r"@\w+\{(\w+),", entry)[1]: entry.strip() for entry in re.split(r"\n(?=@)", text) if entry.strip()}
