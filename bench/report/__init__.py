"""The results as a static HTML site: opens from a file, without a network; every number comes from the cell files."""

from pathlib import Path

from bench import results
from bench.errors import BadInput
from bench.leaderboard import load_published
from bench.leaderboard.groups import sections
from bench.report import boards, charts, faults, systems
from bench.report.site import Site


def write(root: Path, out: Path) -> Path:
    """Writes the site of all cells under `root` into `out`, over pages of the same name; returns its first page.

    Raises BadInput where there is nothing to report or nowhere to write.
    """
    found = list(results.scan(root))
    if not found:
        raise BadInput(f"no results in {root}: run `python -m bench run`, or name the folder with --results")
    cells = {path.relative_to(root): cell for path, cell in found if not isinstance(cell, BadInput)}
    broken = [str(fault).replace(f"{root}/", "") for _, fault in found if isinstance(fault, BadInput)]
    grouped, folders = sections(cells.values()), systems.by_folder(cells)
    pages = {cell["key"]: systems.address(path.parent) for path, cell in cells.items()}
    site = Site(out)
    site.assets()
    site.page("index.html", **boards.leaderboard(grouped, pages), overview=boards.overview(cells.values(), broken))
    site.page("compare.html", contests=charts.contests(cells.values()), fields=charts.fields(grouped, pages))
    site.page("published.html", published=boards.published(grouped, load_published(root), pages))
    site.page("faults.html", **faults.faults(cells, broken, pages))
    site.page("definitions.html", **systems.definitions())
    for folder, members in folders.items():
        site.page("system.html", systems.address(folder), **systems.system(folder, members))
    return site.folder / "index.html"
