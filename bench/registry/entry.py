"""What a file says of itself, read from its source with `ast`: description, declarations, what it imports."""

import ast
import importlib
import importlib.util
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType

from bench.errors import BadInput
from bench.registry.declarations import declarations

REQUIRED = {"method": ("Config", "build"), "detector": ("Config", "build"), "scenario": ("samples",)}


@dataclass(frozen=True)
class Entry:
    """A method, detector or scenario reader that can be run."""

    kind: str
    name: str
    file: Path
    module: str  # dotted name; empty for a file given on the command line

    @cached_property
    def tree(self) -> ast.Module:
        """Its source, parsed. Raises BadInput where that fails."""
        try:
            return ast.parse(self.file.read_text(encoding="utf-8"))
        except (OSError, SyntaxError) as error:
            raise BadInput(
                f"{self.kind} {self.name!r} ({self.file}) cannot be read: {error}; mend the file."
            ) from error

    @property
    def summary(self) -> str:
        """First line of the docstring."""
        return (ast.get_docstring(self.tree) or "").partition("\n")[0]

    @cached_property
    def declared(self) -> dict:
        """What the file declares, checked. Raises BadInput for the first declaration that does not hold."""
        return declarations(self.kind, self.file, self.tree)

    def tuned_on(self, config: dict, size: str) -> list[str]:
        """What `TUNED_ON` says of a resolved configuration: {option: on what the values that it brings were tuned}.

        An option counts where it is set; "" stands for the defaults of size paper.
        """
        told = self.declared["TUNED_ON"].items()
        applies = [(option, text) for option, text in told if (config[option] if option else size == "paper")]
        return [f"{self.name}.{option}: {text}" if option else f"{self.name}: {text}" for option, text in applies]

    def _check_imports(self) -> None:
        """The inner parts of the bench hold the truth of the test set; `bench.api` holds what a method may use."""
        inner = sorted(name for name in _imported(self.tree) if name.startswith("bench") and name != "bench.api")
        if self.kind != "scenario" and inner:
            raise BadInput(f"{self.file} imports {inner[0]}: a {self.kind} may import only bench.api of the bench.")

    def load(self) -> ModuleType:
        """Import the module.

        Raises:
            BadInput: if the import fails, the module lacks what its kind requires, or it reaches into the bench.
        """
        self._check_imports()
        _ = self.declared
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
        self._check_config(module)
        return module

    def _check_config(self, module: ModuleType) -> None:
        if self.kind == "scenario":
            return
        config, parameters = module.Config, getattr(module.Config, "__dataclass_params__", None)
        if parameters is None or not parameters.frozen:
            raise BadInput(f"{self.file}: Config is no frozen dataclass: put @dataclass(frozen=True) above it.")
        if not callable(getattr(config, "tiny", None)):
            raise BadInput(
                f"{self.file}: Config has no `tiny`: add `@classmethod def tiny(cls): return cls(...)`, every stage of "
                "the algorithm at a size for two processor cores."
            )


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
