"""Finds methods, detectors and scenario readers: the file is the registration, its name is the name.

Nothing is imported to list them: descriptions and declarations are read from the source with `ast`.
"""

import ast
import difflib
import importlib
import importlib.util
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from bench.errors import BadInput

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {"method": "methods", "detector": "methods/detectors", "scenario": "scenarios"}
REQUIRED = {"method": ("Config", "build"), "detector": ("Config", "build"), "scenario": ("samples",)}
# What a file may declare at top level, as literals; these are the defaults.
DECLARATIONS = {
    "method": {"DEFAULT_DETECTOR": "reverse_distillation", "REQUIRES": None, "CAPABILITIES": (), "TUNED_ON": {}},
    "detector": {"TRAITS": (), "BACKBONE": None, "TUNED_ON": {}},
    "scenario": {"NEEDS": "nothing"},
}


@dataclass(frozen=True)
class Entry:
    """A method, detector or scenario reader that can be run."""

    kind: str
    name: str
    file: Path
    module: str  # dotted name; empty for a file given on the command line

    @cached_property
    def _tree(self) -> ast.Module:
        try:
            return ast.parse(self.file.read_text(encoding="utf-8"))
        except (OSError, SyntaxError) as error:
            raise BadInput(
                f"{self.kind} {self.name!r} ({self.file}) cannot be read: {error}; mend the file."
            ) from error

    @property
    def summary(self) -> str:
        """First line of the docstring."""
        return (ast.get_docstring(self._tree) or "").partition("\n")[0]

    @cached_property
    def declared(self) -> dict:
        """The literals of `DECLARATIONS`, as the file gives them."""
        return DECLARATIONS[self.kind] | {
            name: value for name, value in _literals(self._tree) if name in DECLARATIONS[self.kind]
        }

    def tuned_on(self, config: dict, size: str) -> list[str]:
        """What `TUNED_ON` says of a resolved configuration: {option: on what the values that it brings were tuned}.

        An option counts where it is set; "" stands for the defaults of size paper.
        """
        told = self.declared["TUNED_ON"].items()
        applies = [(option, text) for option, text in told if (config[option] if option else size == "paper")]
        return [f"{self.name}.{option}: {text}" if option else f"{self.name}: {text}" for option, text in applies]

    def _check_imports(self) -> None:
        """The inner parts of the bench hold the truth of the test set; `bench.api` holds what a method may use."""
        inner = sorted(name for name in _imported(self._tree) if name.startswith("bench") and name != "bench.api")
        if self.kind != "scenario" and inner:
            raise BadInput(f"{self.file} imports {inner[0]}: a {self.kind} may import only bench.api of the bench.")

    def load(self) -> ModuleType:
        """Import the module.

        Raises:
            BadInput: if the import fails, the module lacks what its kind requires, or it reaches into the bench.
        """
        self._check_imports()
        try:
            module = importlib.import_module(self.module) if self.module else _import_file(self.file)
        except BadInput:
            raise
        except Exception as error:
            raise BadInput(
                f"{self.kind} {self.name!r} ({self.file}) cannot be imported: {type(error).__name__}: {error}."
            ) from error
        absent = [part for part in REQUIRED[self.kind] if not hasattr(module, part)]
        if absent:
            raise BadInput(f"{self.file} is no {self.kind}: it lacks `{'` and `'.join(absent)}`; see the README.")
        return module


def found(kind: str, plugins: Iterable[Path] = ()) -> dict[str, Entry]:
    """Every method, detector or scenario reader by name: built in, from entry points, and files given with --plugin.

    Raises:
        BadInput: if two files claim one name.
    """
    entries: dict[str, Entry] = {}
    for entry in (*_built_in(kind), *_installed(kind), *_given(kind, plugins)):
        other = entries.setdefault(entry.name, entry)
        if other.file != entry.file:
            raise BadInput(f"two {kind}s are called {entry.name!r}: {other.file} and {entry.file}; rename one.")
    return entries


def find(kind: str, name: str, plugins: Iterable[Path] = ()) -> Entry:
    """One entry by name.

    Raises:
        BadInput: if there is none, with the nearest name and all known ones.
    """
    entries = found(kind, plugins)
    if name not in entries:
        raise BadInput(unknown(kind, name, entries))
    return entries[name]


def default_size(reader: str, plugins: Iterable[Path] = ()) -> str:
    """tiny where the readers (joined by +) need no data set, paper elsewhere."""
    needs = {find("scenario", name, plugins).declared["NEEDS"] for name in reader.split("+")}
    return "tiny" if needs == {"nothing"} else "paper"


def unknown(thing: str, name: str, known: Iterable[str]) -> str:
    """The sentence for a name that does not exist."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"no {thing} {name!r}.{hint} Known: {', '.join(known)}."


def _built_in(kind: str) -> Iterable[Entry]:
    folder = ROOT / FOLDERS[kind]
    for path in sorted(folder.iterdir()):
        file = path / "__init__.py" if path.is_dir() else path
        name = path.stem
        if file.suffix == ".py" and file.is_file() and not name.startswith("_") and path.name not in ("detectors",):
            yield Entry(kind, name, file, f"{FOLDERS[kind].replace('/', '.')}.{name}")


def _installed(kind: str) -> Iterable[Entry]:
    for point in entry_points(group=f"bench.{kind}s"):
        spec = importlib.util.find_spec(point.module)
        if spec is None or spec.origin is None:
            raise BadInput(
                f"entry point {point.name!r} of bench.{kind}s names no module {point.module!r}; reinstall it."
            )
        yield Entry(kind, point.name, Path(spec.origin), point.module)


def _given(kind: str, plugins: Iterable[Path]) -> Iterable[Entry]:
    for plugin in plugins:
        path = Path(plugin).resolve()
        if not path.is_file():
            raise BadInput(f"no plugin file {str(plugin)!r}; give the path of a Python file.")
        entry = Entry(kind, path.stem, path, "")
        if _kind_of(entry._tree, path) == kind:
            yield entry


def _kind_of(tree: ast.Module, path: Path) -> str:
    """A file with `samples` is a scenario reader; otherwise the return annotation of `build` tells."""
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    if "samples" in functions:
        return "scenario"
    build = functions.get("build")
    returns = ast.unparse(build.returns) if build and build.returns else ""
    kind = {"Strategy": "method", "Detector": "detector"}.get(returns)
    if kind is None:
        raise BadInput(
            f"{path} is no plugin: it needs `build(...) -> Strategy`, `build(...) -> Detector` or `samples(...)`."
        )
    return kind


def _literals(tree: ast.Module) -> Iterable[tuple[str, object]]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            try:
                yield node.targets[0].id, ast.literal_eval(node.value)
            except ValueError:
                continue  # not a literal, so not a declaration


def _imported(tree: ast.Module) -> Iterable[str]:
    """Modules of the bench that a file imports anywhere, `from bench import x` as bench.x."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] == "bench")
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module.partition(".")[0] == "bench":
            whole = node.module == "bench"
            yield from (f"bench.{alias.name}" if whole else node.module for alias in node.names)


def _import_file(path: Path) -> ModuleType:
    name = f"bench_plugin_{path.stem}"
    if name in sys.modules and sys.modules[name].__file__ == str(path):
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up while it is being executed
    spec.loader.exec_module(module)
    return module
