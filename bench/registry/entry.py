"""What a file says of itself, read from its source with `ast`: description, declarations, what it imports."""

import ast
import importlib
import sys
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from types import ModuleType

from bench.errors import BadInput, printable
from bench.registry.declarations import declarations, did_you_mean
from bench.registry.importing import import_file

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
        return self._docstring.partition("\n")[0]

    @property
    def description(self) -> str:
        """The rest of the docstring: whose it is, what it keeps, how it differs from what was published."""
        return self._docstring.partition("\n")[2].strip()

    @property
    def _docstring(self) -> str:
        return printable(ast.get_docstring(self.tree) or "")

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

    def load(self) -> ModuleType:
        """Import the module.

        Raises:
            BadInput: if the import fails, the module lacks what its kind requires, or it reaches into the bench.
        """
        # The inner parts of the bench hold the truth of the test set; `bench.api` holds what a method may use.
        inner = sorted(name for name in _imported(self.tree) if name.startswith("bench") and name != "bench.api")
        if self.kind != "scenario" and inner:
            raise BadInput(f"{self.file} imports {inner[0]}: a {self.kind} may import only bench.api of the bench.")
        _ = self.declared
        if not self.module:
            self._check_helpers()
        try:
            module = importlib.import_module(self.module) if self.module else import_file(self.file)
        except BadInput:
            raise
        except (Exception, SystemExit) as error:
            raise BadInput(
                f"{self.kind} {self.name!r} ({_place(error, self.file)}) cannot be imported: "
                f"{type(error).__name__}: {error}."
            ) from error
        absent = [part for part in REQUIRED[self.kind] if not hasattr(module, part)]
        if absent:
            raise BadInput(
                f"{self.file} is no {self.kind}: it lacks `{'` and `'.join(absent)}`; see docs/add-a-method.md."
            )
        if self.kind != "scenario":
            self._check_config(module.Config)
        return module

    def _check_helpers(self) -> None:
        """Python would take another plugin's helper, imported before under the same name, for this one's."""
        from bench.registry.source import source_files  # which builds on this file

        folder = self.file.resolve().parent
        for file in source_files(self)[1:]:
            if file.is_relative_to(folder):
                name = ".".join(file.relative_to(folder).with_suffix("").parts).removesuffix(".__init__")
                other = getattr(sys.modules.get(name), "__file__", None)
                if other and name.partition(".")[0] != "bench" and Path(other).resolve() != file:
                    raise BadInput(f"{self.file} imports {file}, and {other} has the same name: rename one of them.")

    def _check_config(self, config: type) -> None:
        where = f"{self.file}:{self.line_of('Config')}"
        parameters = getattr(config, "__dataclass_params__", None)
        if parameters is None or not parameters.frozen:
            raise BadInput(f"{where}: Config is no frozen dataclass: put @dataclass(frozen=True) above it.")
        if not callable(getattr(config, "tiny", None)):
            raise BadInput(
                f"{where}: Config has no `tiny`: add `@classmethod def tiny(cls): return cls(...)`, every stage of "
                "the algorithm at a size for two processor cores."
            )
        options = [field.name for field in fields(config)]
        for name in ("TUNED_ON", "AS_RELEASED"):
            for option in self.declared[name]:
                if option and option not in options:
                    where, hint = f"{self.file}:{self.line_of(name)}", did_you_mean(option, options)
                    raise BadInput(f"{where}: {name} names {option!r}, and Config has no such option.{hint}")

    def line_of(self, name: str) -> int:
        """The line on which the file defines a class, function or name at its top level; 1 where it does not."""
        for node in self.tree.body:
            target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", node)
            if name in (getattr(target, "id", None), getattr(node, "name", None)):
                return node.lineno
        return 1


def _place(error: BaseException, file: Path) -> str:
    """The file, with the last of its lines that was under way."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    return f"{file}:{lines[-1]}" if lines else str(file)


def _imported(tree: ast.Module) -> Iterable[str]:
    """Modules of the bench that a file imports anywhere, `from bench import x` as bench.x."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] == "bench")
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module.partition(".")[0] == "bench":
            whole = node.module == "bench"
            yield from (f"bench.{alias.name}" if whole else node.module for alias in node.names)
