"""A page per method: what it does and whose it is, our rows, what papers print of it, how to run it."""

from collections.abc import Sequence

from bench import registry
from bench.published import PRINTED_AS, Published
from bench.render.report.boards import Board
from bench.schema.metric import headings

FOREIGN = "Not a method of this project: it was given as a plugin, or scored elsewhere."


def method_address(name: str) -> str:
    """Where the page of a method lies in the site."""
    return f"methods/{name}.html"


def methods(boards: Sequence[Board], printed: Sequence[Published]) -> dict[str, dict]:
    """Values of the templates by name: of the project's methods, and of others that have rows."""
    entries = registry.found_entries("method")
    ran = {line.row.spec["method"] for board in boards for line in board.lines}
    found = {}
    for name in sorted({*entries, *ran}):
        entry = entries.get(name)
        rows = [(board, [line for line in board.lines if line.row.spec["method"] == name]) for board in boards]
        systems = {detector: names for (method, detector), names in PRINTED_AS.items() if method == name}
        found[name] = {
            "name": name,
            "summary": entry.summary if entry else FOREIGN,
            "about": entry.description if entry else "",
            "declared": entry.declared if entry else {},
            "own": bool(entry),
            "rows": [(board, lines) for board, lines in rows if lines],
            "printed": [
                (detector, headings().get(row.metric, row.metric), row)
                for detector, names in systems.items()
                for row in printed
                if row.method in names and not row.of_class
            ],
        }
    return found
