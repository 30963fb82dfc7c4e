"""Who may import whom: read from the source, so that a wrong arrow fails before it is ever run."""

import ast
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "torchvision", "avalanche", "anomalib", "timm", "diffusers", "transformers", "lightning"}
# Rooms that a command which runs nothing may need: none of their files may reach a heavy library at import.
LIGHT = {
    "__init__",
    "__main__",
    "analysis",
    "api",
    "backends",
    "cli",
    "data",
    "errors",
    "exchange",
    "metrics",
    "published",
}
LIGHT |= {"registry", "render", "results", "schema", "session"}
MOST_AMBIGUOUS = 0.01  # share of the public names of the bench that two files may have
# From the outside in: a module may import at its top only from its own layer or further in.
LAYERS = [
    {"__main__"},
    {"cli"},
    {"advise"},
    {"session"},
    {"contract"},
    {"exchange"},
    {"render"},
    {"backends"},
    {"runner"},
    {"evaluation"},
    {"wall"},
    {"api"},
    {"analysis"},
    {"training"},
    {"published"},
    {"results", "metrics", "data"},
    {"schema"},
    {"registry"},
    {"errors"},
]


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports(path: Path, *, late: bool) -> set[str]:
    """Modules that a file imports at its top level, and with `late` inside functions too."""
    tree = parsed(path)
    nodes = ast.walk(tree) if late else _eager(tree)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def _eager(tree: ast.AST):
    for node in ast.iter_child_nodes(tree):
        typing_only = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if not typing_only and not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda):
            yield node
            yield from _eager(node)


def bench_modules(path: Path, *, late: bool = True) -> set[str]:
    names = {name.split(".")[1] for name in imports(path, late=late) if name.startswith("bench.")}
    return {name for name in names if room(name)}


def room(name: str) -> list[Path]:
    """The files of a module or package of the bench; none if there is no such module."""
    return sorted((ROOT / "bench" / name).rglob("*.py")) or [p for p in [ROOT / "bench" / f"{name}.py"] if p.exists()]


def arrows(name: str, *, late: bool = True) -> set[str]:
    """The rooms that any file of a room imports, other than itself."""
    return set().union(*(bench_modules(path, late=late) for path in room(name))) - {name}


ROOMS = sorted(path.stem for path in (ROOT / "bench").iterdir() if room(path.stem))


def plugin_files() -> list[Path]:
    return [
        path
        for path in sorted((ROOT / "methods").rglob("*.py"))
        if path.name != "__init__.py" or path.parent.name not in ("methods", "detectors")
    ]


@pytest.mark.parametrize("path", plugin_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_plugin_imports_only_the_api_of_the_bench(path):
    assert bench_modules(path) <= {"api"}


@pytest.mark.parametrize(
    "path", sorted((ROOT / "scenarios").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_a_reader_imports_only_the_light_side_of_the_bench(path):
    assert bench_modules(path) <= {"api", "data", "errors"}
    assert not HEAVY & {name.split(".")[0] for name in imports(path, late=True)}


@pytest.mark.parametrize("path", sorted((ROOT / "bench").rglob("*.py")), ids=lambda path: path.stem)
def test_the_bench_reaches_plugins_only_through_the_registry(path):
    assert not {"methods", "scenarios"} & {name.split(".")[0] for name in imports(path, late=True)}


def test_arrows_point_inwards():
    depth = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    for name, own in depth.items():
        for other in arrows(name):
            assert depth.get(other, len(LAYERS)) >= own, f"bench.{name} imports bench.{other}, which is further out"


def acyclic(graph: dict[str, set[str]]) -> None:
    done: set[str] = set()
    while graph.keys() - done:
        free = {name for name in graph.keys() - done if not (graph[name] & graph.keys()) - done}
        assert free, f"a cycle among {sorted(graph.keys() - done)}"
        done |= free


def test_there_is_no_cycle_of_rooms():
    acyclic({name: arrows(name, late=False) for name in ROOMS})


def test_there_is_no_cycle_of_files():
    files = {dotted(path): path for path in (ROOT / "bench").rglob("*.py")}
    acyclic({name: _owners(path, files.keys()) - {name} for name, path in files.items() if name != "bench"})


def dotted(path: Path) -> str:
    """`bench.runner.again` of its file, `bench.runner` of the package's."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _owners(path: Path, modules: Iterable[str]) -> set[str]:
    """Those of `modules` that a file imports at its top level: of `from bench.x import y` y where it is a module."""
    owners = set()
    for node in _eager(parsed(path)):
        if isinstance(node, ast.Import):
            owners |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            inner = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            owners |= {inner[name] if inner[name] in modules else node.module for name in inner}
    return owners & set(modules)


@pytest.mark.parametrize("name", sorted(LIGHT))
def test_light_modules_import_nothing_heavy(name):
    for path in room(name):
        if "figure" not in path.parts:  # pictures come from networks
            assert not HEAVY & {module.split(".")[0] for module in imports(path, late=False)}
    assert arrows(name, late=False) - {"runner", "training", "wall"} <= LIGHT  # figure's


@pytest.mark.parametrize(
    "command", [["--help"], ["run", "--help"], ["list"], ["leaderboard", "--check"], ["published"]], ids=" ".join
)
def test_commands_that_run_nothing_import_no_torch_and_start_fast(command):
    code = (
        "import sys, time, bench.cli; from contextlib import suppress\n"
        "with suppress(SystemExit): bench.cli.main(sys.argv[1:])\n"
        f"print('SECONDS', time.process_time(), 'HEAVY', sorted(set(sys.modules) & set({sorted(HEAVY)})))"
    )
    seconds = []
    for _ in range(3):  # the least of three, and a wide limit: what imports one heavy library takes several seconds
        done = subprocess.run(
            [sys.executable, "-c", code, *command], cwd=ROOT, capture_output=True, text=True, check=True
        )
        line = done.stdout.splitlines()[-1].split(maxsplit=3)
        assert line[3] == "[]"
        seconds.append(float(line[1]))
        if seconds[-1] < 2:
            return
        time.sleep(0.2)
    pytest.fail(f"{command} took {min(seconds):.2f} s of CPU")


def test_a_plugin_that_reaches_into_the_bench_is_seen(tmp_path):
    (tmp_path / "sly.py").write_text("def build():\n    from bench.evaluation import Truth\n    return Truth\n")
    assert bench_modules(tmp_path / "sly.py") == {"evaluation"}
    assert bench_modules(tmp_path / "sly.py", late=False) == set()


SOURCES = {dotted(path): path for path in (ROOT / "bench").rglob("*.py")}


@cache
def defined(module: str) -> frozenset[str]:
    """Names at the top level of a module of the bench, and the modules in it."""
    names = {name.removeprefix(f"{module}.").partition(".")[0] for name in SOURCES if name.startswith(f"{module}.")}
    tree = parsed(SOURCES[module])
    names |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    for node in _eager(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return frozenset(names)


def misses(path: Path) -> list[str]:
    """What a file takes from a module of the bench that has no such name: by import, or behind the module's name."""
    tree, modules, found = parsed(path), {}, []
    lazy = {name for name in SOURCES if "__getattr__" in defined(name)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module in SOURCES.keys() - lazy:
            found += [f"{node.module}.{alias.name}" for alias in node.names if alias.name not in defined(node.module)]
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            named = {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            modules |= {name: module for name, module in named.items() if module in SOURCES}
    local = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    local |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id not in local:
            module = modules.get(node.value.id)
            if module and not node.attr.startswith("__") and node.attr not in defined(module):
                found.append(f"{module}.{node.attr}")
    return found


def test_what_is_taken_from_the_bench_is_there():
    """So a name that was changed is changed everywhere, in tests and benchmarks too."""
    files = [path for folder in ("bench", "methods", "scenarios", "tests", "docs", "pretraining")
             for path in (ROOT / folder).rglob("*.py")]  # fmt: skip
    assert {str(path.relative_to(ROOT)): lost for path in files if (lost := misses(path))} == {}


def test_public_names_say_whose_they_are():
    """One function or class of each name, so that a search is the map; a few are the same part played by several."""
    names = Counter(
        node.name
        for path in SOURCES.values()
        for node in parsed(path).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    )
    twice = sorted(name for name, count in names.items() if count > 1)
    assert len(twice) < MOST_AMBIGUOUS * len(names), twice
