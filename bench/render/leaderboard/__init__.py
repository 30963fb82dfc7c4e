"""Turns the cell files into leaderboard.md and leaderboard.csv: same files, same bytes."""

import gc
import os
from collections.abc import Mapping
from pathlib import Path

from bench import published, results
from bench.analysis.groups import Section, sections
from bench.errors import BadInput
from bench.render.leaderboard import readme
from bench.render.leaderboard.lines import csv_text
from bench.render.leaderboard.page import front, page, slug

TABLES = "tables"  # folder of the sections' pages, in the results folder


def render(root: Path, markdown: Path | None = None) -> dict[Path, str]:
    """Path -> text of every page and table of all cells under `root`; the first one is leaderboard.md."""
    return _render(Path(root), markdown, *read_sections(root))


def read_sections(root: Path) -> tuple[list[Section], list[str]]:
    """What the usable cells under `root` give, and a sentence for each file that is not one."""
    gc.disable()  # cells hold no cycles, and to look for some among millions of numbers takes as long as to read them
    try:
        found = list(results.scan(root))
    finally:
        gc.enable()
    grouped = sections([cell for _, cell in found if not isinstance(cell, BadInput)])
    broken = [  # the page is the same wherever the folder lies
        str(fault).replace(str(path), path.relative_to(root).as_posix())
        for path, fault in found
        if isinstance(fault, BadInput)
    ]
    return grouped, broken


def _render(root: Path, markdown: Path | None, grouped: list[Section], broken: list[str]) -> dict[Path, str]:
    markdown = Path(markdown) if markdown else _beside(root)
    printed = published.load_published()
    beside = Path(os.path.relpath(root.resolve() / TABLES, markdown.resolve().parent)).as_posix()
    pages = {root / TABLES / f"{slug(section)}.md": page(section, printed) for section in grouped}
    if _named(root).name == "results":  # folders of other names may lie side by side
        pages |= readme.rendered_readme(_beside(root).with_name("README.md"), grouped)
    return {markdown: front(grouped, broken, printed, beside), root / "leaderboard.csv": csv_text(grouped), **pages}


def _beside(root: Path) -> Path:
    """leaderboard.md beside `root`; folders of another name than `results` may lie side by side, so it bears theirs."""
    whole = _named(root)
    page = whole.with_name("leaderboard.md" if whole.name == "results" else f"leaderboard-{whole.name}.md")
    return page if root.is_absolute() else Path(os.path.relpath(page))


def _named(root: Path) -> Path:
    """Where `root` lies, under the name that the user gave it, be it a link to another."""
    return Path(os.path.abspath(root))


def write_leaderboard(root: Path, markdown: Path | None = None) -> tuple[Path, ...]:
    """Writes leaderboard.md (default: see `_beside`), `root`/leaderboard.csv, the pages in `root`/tables, and the table
    in the README beside it, where that asks for one; returns these paths in this order."""
    root = Path(root)
    results.check_disk(root)
    grouped, broken = read_sections(root)
    if broken and not grouped:
        raise BadInput(f"no result in {root} counts, so nothing is written: {broken[0]}")
    rendered = _render(root, markdown, grouped, broken)
    for path, text in rendered.items():
        results.replace(path, text)
    for path in _stale(root, rendered):
        path.unlink()
    page, table, *others = rendered
    readme_there = [path for path in others if path.name == "README.md"]
    return page, table, *([root / TABLES] if len(others) > len(readme_there) else []), *readme_there


def check_leaderboard(root: Path, markdown: Path | None = None) -> str:
    """Which file is not what `root` gives, in one sentence; "" where all are."""
    return next(iter(stale(root, markdown)), "")


def stale(root: Path, markdown: Path | None = None) -> list[str]:
    """A sentence for each page and table that is not what the cell files give."""
    rendered = render(root, markdown)
    again = "run `python -m bench leaderboard` and commit the result"
    other = [path for path, text in rendered.items() if not path.exists() or path.read_bytes() != text.encode()]
    return [f"{path} is not what {root} gives: {again}" for path in other] + [
        f"{path} belongs to no result in {root}: {again}" for path in _stale(Path(root), rendered)
    ]


def _stale(root: Path, rendered: Mapping[Path, str]) -> list[Path]:
    return sorted(set((root / TABLES).glob("*.md")) - rendered.keys())
