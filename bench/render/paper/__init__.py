"""`bench paper`: what an author needs of the results: LaTeX tables, figures, references, and how it was measured."""

from collections.abc import Sequence
from pathlib import Path

from bench import results
from bench.analysis.groups import Section
from bench.analysis.rows import Row
from bench.errors import BadInput
from bench.registry.declarations import did_you_mean
from bench.render import leaderboard
from bench.render.leaderboard.page import slug
from bench.render.paper import figures, latex
from bench.render.paper.references import bibliography, keys


def write_paper(
    root: Path, to: Path, methods: Sequence[str] = (), detectors: Sequence[str] = (), scenario: str = ""
) -> list[Path]:
    """Write a folder for a paper on the finished rows of `methods` and `detectors` (all, where none is named).

    Of each section: NAME.tex (a table), NAME-R, NAME-steps, NAME-carried and NAME-stability as PDF and SVG. For all:
    references.bib, measured.tex (a paragraph) and paper.tex, which shows everything and compiles as it is.

    Raises:
        BadInput: for a name that has no finished row, or a folder that cannot be written.
    """
    grouped, _ = leaderboard.read_sections(root)
    chosen = [(section, _chosen(section, methods, detectors)) for section in grouped]
    chosen = [(section, rows) for section, rows in chosen if rows and scenario in ("", section.spec["scenario"])]
    _check(methods, {row.spec["method"] for _, rows in chosen for row in rows}, "method", root)
    _check(detectors, {row.spec["detector"] for _, rows in chosen for row in rows}, "detector", root)
    if not chosen:
        raise BadInput(f"no finished row in {root}{f' of {scenario}' if scenario else ''}: run `bench run` first.")
    made, parts = [], []
    for section, rows in chosen:
        name = slug(section)
        made.append(_text(to / f"{name}.tex", latex.latex_table(section, rows)))
        drawn = figures.draw(rows, to / name)
        made += drawn
        parts.append(latex.part(name, [path.stem for path in drawn if path.suffix == ".pdf"]))
    rows = [row for _, rows in chosen for row in rows]
    made.append(_text(to / "measured.tex", latex.measured(chosen)))
    made.append(_text(to / "references.bib", bibliography(rows)))
    made.append(_text(to / "paper.tex", latex.document(parts, keys(rows))))
    return made


def _chosen(section: Section, methods: Sequence[str], detectors: Sequence[str]) -> list[Row]:
    rows = [row for row in section.rows if not row.status]
    rows = [row for row in rows if not methods or row.spec["method"] in methods]
    rows = [row for row in rows if not detectors or row.spec["detector"] in detectors]
    return sorted(rows, key=lambda row: (-row.stat("final_image_auroc").mean, row.label, row.spec["detector"]))


def _check(asked: Sequence[str], there: set[str], what: str, root: Path) -> None:
    for name in asked:
        if name not in there:
            known = ", ".join(sorted(there)) or "none"
            raise BadInput(
                f"no finished row of the {what} {name!r} in {root}: there are {known}.{did_you_mean(name, there)}"
            )


def _text(path: Path, text: str) -> Path:
    results.replace(path, text)
    return path
