"""How the code is built, in figures: `python tests/benchmarks/code_figures.py [--trace]`.

`ambiguous`: public functions and classes of `bench` (top level) of which another file has one of the same name.
`named once`: private functions and methods that are used at one place. With `--trace` a cell of two steps is run, and
the files of `bench` that its own process passes through from the first call to the written record are listed; a climb
is a call from one room into a room further out.
"""

import argparse
import ast
import re
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = {path: path.read_text() for path in sorted((ROOT / "bench").rglob("*.py"))}
TREES = {path: ast.parse(text) for path, text in FILES.items()}
DEFINED = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def public() -> dict[str, list[Path]]:
    """Name -> the files that define it at their top level."""
    found = defaultdict(list)
    for path, tree in TREES.items():
        for node in tree.body:
            if isinstance(node, DEFINED) and not node.name.startswith("_"):
                found[node.name].append(path)
    return found


def private() -> dict[str, int]:
    """Name -> how often it is used, of functions and methods that begin with one underscore."""
    nodes = (node for tree in TREES.values() for node in ast.walk(tree))
    names = [n.name for n in nodes if isinstance(n, ast.FunctionDef) and re.match(r"_(?!_)", n.name)]
    words = Counter(word for text in FILES.values() for word in re.findall(r"\b_\w+", text))
    defined = Counter(names)
    return {name: words[name] - defined[name] for name in defined}


def passed() -> tuple[list[str], int]:
    """(the files in the order in which they are first entered, climbs) of a cell."""
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    from test_layers import LAYERS
    from trees import MANIFEST

    import bench.backends.preload  # noqa: F401 - what is imported while it runs is no stop on its way
    from bench.runner.cell import run_cell
    from bench.runner.plan import plan_cells
    from bench.schema.request import Request

    depth = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    stops, climbs = {}, set()

    def place(frame) -> Path | None:
        path = Path(frame.f_code.co_filename) if frame else None
        return path.relative_to(ROOT / "bench") if path and path.is_relative_to(ROOT / "bench") else None

    def hear(frame, event, _):
        if event == "call" and (here := place(frame)):
            stops.setdefault(str(here), None)
            caller = place(frame.f_back)
            inner, outer = (depth.get(part.parts[0].removesuffix(".py")) if part else None for part in (caller, here))
            if None not in (inner, outer) and outer < inner:
                climbs.add((str(caller), str(here)))

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "mini.yaml").write_text(MANIFEST)
        about = {"overrides": {"autoencoder": {"epochs": 1}}, "cache": folder / "cache", "device": "cpu"}
        request = Request(("finetune",), ("autoencoder",), (str(folder / "mini.yaml"),), size="tiny", **about)
        (cell,) = plan_cells(request)
        sys.setprofile(hear)
        run_cell(cell, folder / "results")
        sys.setprofile(None)
    return list(stops), len(climbs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trace", action="store_true", help="run a cell")
    options = parser.parse_args()
    names, helpers = public(), private()
    twice = {name: paths for name, paths in names.items() if len(paths) > 1}
    once = sum(count == 1 for count in helpers.values())
    lines = sum(text.count("\n") for text in FILES.values())
    functions = sum(isinstance(node, ast.FunctionDef) for tree in TREES.values() for node in ast.walk(tree))
    tests = sum(path.read_text().count("\n") for path in (ROOT / "tests").rglob("*.py"))
    print(f"loose files in bench/: {len(list((ROOT / 'bench').glob('*.py')))}")
    print(f"public names: {len(names)}, ambiguous: {len(twice)} ({len(twice) / len(names):.1%})")
    for name, paths in sorted(twice.items()):
        print(f"  {name}: {', '.join(str(path.relative_to(ROOT / 'bench')) for path in paths)}")
    print(f"private helpers: {len(helpers)}, named once: {once} ({once / len(helpers):.1%})")
    print(f"functions per 100 lines: {100 * functions / lines:.1f} ({functions} in {lines})")
    print(f"lines of test code: {tests}")
    if options.trace:
        stops, climbs = passed()
        print(f"files that a cell passes: {len(stops)}, climbs: {climbs}", *stops, sep="\n  ")


if __name__ == "__main__":
    main()
