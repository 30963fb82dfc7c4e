"""Renders the templates: everything escaped, links relative, the scripts copied beside the pages."""

import math
import re
from collections.abc import Iterable
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from bench import __version__, results
from bench.render.leaderboard.tables import MISSING, amount, score_text, span

NAV = (
    ("index.html", "Leaderboard"),
    ("methods.html", "Methods"),
    ("compare.html", "Compare"),
    ("published.html", "Against papers"),
    ("faults.html", "Failures and gaps"),
    ("definitions.html", "Definitions"),
)


class Site:
    """A folder of pages; every page brings the same head, and nothing is fetched from elsewhere."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)

    @cached_property
    def templates(self) -> Environment:
        """The templates of this package, with the formats that the leaderboard uses."""
        environment = Environment(
            loader=PackageLoader("bench.render.report"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters |= {
            "score": score_text,
            "amount": amount,
            "span": span,
            "number": number,
            "percent": percent,
        }
        environment.filters |= {"choices": choices, "url": lambda path: quote(path, safe="/"), "code": docstring_code}
        environment.globals |= {"nav": NAV, "version": __version__, "missing": MISSING}
        return environment

    def assets(self) -> None:
        """Copies styles and scripts, and Plotly's library out of its package."""
        from plotly.offline import get_plotlyjs

        for file in files("bench.render.report").joinpath("assets").iterdir():
            results.replace(self.folder / "assets" / file.name, file.read_text(encoding="utf-8"))
        results.replace(self.folder / "assets" / "plotly.min.js", get_plotlyjs())

    def text(self, address: str, text: str) -> None:
        """Writes a file that is no page."""
        results.replace(self.folder / address, text)

    def page(self, template: str, address: str = "", **values) -> None:
        """Renders `template` to `address` (default: its own name) with `values`."""
        address = address or template
        root = "../" * address.count("/")
        text = self.templates.get_template(f"{template}.j2").render(root=root, here=address, **values)
        results.replace(self.folder / address, text)


def number(value: float | None, digits: int = 3) -> str:
    """A score as text; `—` where it was not measured."""
    return MISSING if value is None or math.isnan(value) else f"{value:.{digits}f}"


def percent(value: float) -> str:
    """A share as text."""
    return MISSING if math.isnan(value) else f"{100 * value:.1f} %"


def docstring_code(text: str) -> Markup:
    """The words of a docstring, what stands in backticks as code."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def choices(values: Iterable[str]) -> list[tuple[str, str]]:
    """(value, text) of a selection that may also be left open."""
    return [("", "all"), *((value, value) for value in dict.fromkeys(values))]
