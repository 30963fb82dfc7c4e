"""How the code is built, in figures: `python tests/benchmarks/code_figures.py [--trace]`.

`ambiguous`: public functions and classes of `bench` (top level) of which another file has one of the same name.
`named once`: private functions and methods that are used at one place; of these, `called by something longer` leaves
out what is handed over as a value (callbacks, entries of a table) and what is longer than its only caller.
With `--trace` a cell of two steps is run, and the files of `bench` are listed that its own process enters from the
first call to the written record. `hand on` are those from which another is entered; `on the way` those that stand on
the stack when one of its acts happens: a message to or from a method, scores entered, something written. A climb is a
call from one room into a room further out.
"""

import argparse
import ast
import re
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = {path: path.read_text() for path in sorted((ROOT / "bench").rglob("*.py"))}
TREES = {path: ast.parse(text) for path, text in FILES.items()}
DEFINED = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
# Where the acts of a cell happen: (file, function).
ACTS = {
    ("wall/protocol.py", "send"),
    ("wall/protocol.py", "receive"),
    ("metrics/scoring.py", "enter"),
    ("results/stored.py", "write_stored"),
    ("schema/disk.py", "replace"),
}


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


def called_once(names: set[str]) -> int:
    """How many functions of these `names`, which are used at one place each, are called there by something longer."""
    length, caller = {}, {}
    for tree in TREES.values():
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        for function in functions:  # an inner one comes after what is around it
            own = function.end_lineno - function.lineno
            length |= {function.name: own} if function.name in names else {}
            for node in ast.walk(function):
                if isinstance(node, ast.Call) and (name := getattr(node.func, "attr", getattr(node.func, "id", ""))):
                    caller |= {name: own} if name in names else {}
    return sum(length[name] < caller.get(name, 0) for name in length)


def passed() -> tuple[dict[str, set[str]], set[str], set[tuple[str, str]]]:
    """Of a cell: {file that is entered, in that order: files entered from it}, those on the way, climbs."""
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    from test_layers import LAYERS
    from trees import MANIFEST

    import bench.backends.preload  # noqa: F401 - what is imported while it runs is no stop on its way
    from bench.runner.cell import run_cell
    from bench.runner.plan import plan_cells
    from bench.schema.request import Request

    depth = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    stops, way, climbs, root = {}, set(), set(), f"{ROOT / 'bench'}/"

    def around(frame) -> Iterator[str]:
        """The files of the bench on the stack, from the innermost out."""
        while frame:
            if frame.f_code.co_filename.startswith(root):
                yield frame.f_code.co_filename.removeprefix(root)
            frame = frame.f_back

    def hear(frame, event, _):
        if event != "call" or not frame.f_code.co_filename.startswith(root):
            return
        here, *outside = around(frame)
        stops.setdefault(here, set())
        if (here, frame.f_code.co_name) in ACTS:
            way.update((here, *outside))
        caller = outside[0] if outside else here
        if caller != here:
            stops[caller].add(here)
            inner, outer = (depth.get(file.split("/")[0].removesuffix(".py")) for file in (caller, here))
            if None not in (inner, outer) and outer < inner:
                climbs.add((caller, here))

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "mini.yaml").write_text(MANIFEST)
        about = {"overrides": {"autoencoder": {"epochs": 1}}, "cache": folder / "cache", "device": "cpu"}
        request = Request(("finetune",), ("autoencoder",), (str(folder / "mini.yaml"),), size="tiny", **about)
        (cell,) = plan_cells(request)
        sys.setprofile(hear)
        run_cell(cell, folder / "results")
        sys.setprofile(None)
    return stops, way, climbs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trace", action="store_true", help="run a cell")
    options = parser.parse_args()
    names, helpers = public(), private()
    twice = {name: paths for name, paths in names.items() if len(paths) > 1}
    once = {name for name, count in helpers.items() if count == 1}
    lines = sum(text.count("\n") for text in FILES.values())
    functions = sum(isinstance(node, ast.FunctionDef) for tree in TREES.values() for node in ast.walk(tree))
    tests = sum(path.read_text().count("\n") for path in (ROOT / "tests").rglob("*.py"))
    print(f"loose files in bench/: {len(list((ROOT / 'bench').glob('*.py')))}")
    print(f"public names: {len(names)}, ambiguous: {len(twice)} ({len(twice) / len(names):.1%})")
    for name, paths in sorted(twice.items()):
        print(f"  {name}: {', '.join(str(path.relative_to(ROOT / 'bench')) for path in paths)}")
    print(f"private helpers: {len(helpers)}, named once: {len(once)} ({len(once) / len(helpers):.1%})", end=", ")
    print(f"of these called by something longer: {called_once(once)}")
    print(f"functions per 100 lines: {100 * functions / lines:.1f} ({functions} in {lines})")
    print(f"lines of test code: {tests}")
    if options.trace:
        stops, way, climbs = passed()
        print(f"files that a cell enters: {len(stops)}, of which hand on: {sum(map(bool, stops.values()))}", end=", ")
        print(f"on the way: {len(way)}, climbs: {len(climbs)}")
        for stop in stops:
            print(f"  {stop}{', on the way' if stop in way else ''}")


if __name__ == "__main__":
    main()
