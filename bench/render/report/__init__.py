"""The results as a static HTML site: opens from a file, without a network; every number comes from the cell files."""

from pathlib import Path

from bench import published, results
from bench.analysis import gap_to_joint as distance
from bench.analysis.groups import sections
from bench.errors import BadInput
from bench.render.report import boards, charts, methods, systems
from bench.render.report import failures as faults
from bench.render.report.site import Site


def write_report(root: Path, out: Path, pictures=None) -> Path:
    """Writes the site of all cells under `root` into `out`, over pages of the same name; returns its first page.

    With `pictures` (data, scenario, plugin and cache, as `bench score` has them) also test images with their maps.
    Raises BadInput where there is nothing to report or nowhere to write.
    """
    if pictures:  # what reads images is slow to import
        from bench.render.report import gallery
    found = list(results.scan(root))
    if not found:
        raise BadInput(f"no results in {root}: run `python -m bench run`, or name the folder with --results")
    cells = {path.relative_to(root): cell for path, cell in found if not isinstance(cell, BadInput)}
    broken = [str(fault).replace(f"{root}/", "") for _, fault in found if isinstance(fault, BadInput)]
    grouped, folders = sections(cells.values()), systems.by_folder(cells)
    pages = {cell["key"]: systems.system_address(path.parent) for path, cell in cells.items()}
    site = Site(out)
    site.assets()
    found = boards.boards(grouped, pages)
    site.page("index.html", boards=found, overview=boards.overview(cells.values(), broken))
    for board in found:
        site.page("board.html", board.address, **boards.page_of(board))
        site.text(board.address.replace(".html", ".csv"), board.csv())
    printed = published.load_published()
    described = methods.methods(found, printed)
    site.page("methods.html", methods=described)
    for name, about in described.items():
        site.page("method.html", methods.method_address(name), **about)
    site.page("compare.html", contests=charts.contests(cells.values()), fields=charts.fields(grouped, pages))
    site.page("published.html", published=boards.published_boards(grouped, printed, pages))
    site.page("faults.html", **faults.faults(cells, broken, pages))
    site.page("definitions.html", **systems.definitions())
    joint = distance.joint_cells(cells.values())
    for folder, members in folders.items():
        galleries = []
        for cell in members if pictures else ():
            name = folder / f"seed-{cell['spec']['seed']}"
            address = f"systems/{name.as_posix()}"
            galleries.append(gallery.of_run(root / f"{name}.json", cell, pictures, site.folder, address))
        galleries = [one for one in galleries if one["classes"] or one["note"]]  # those with maps, or that lack them
        shown = systems.system(folder, members, joint)
        site.page("system.html", systems.system_address(folder), **shown, galleries=galleries)
    return site.folder / "index.html"
