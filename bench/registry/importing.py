"""Imports a plugin by its path, given on the command line: no package has it."""

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType


def import_file(path: Path) -> ModuleType:
    """Import a file by its path; the helpers that lie beside it are found by their names."""
    name = f"bench_plugin_{path.stem}"
    if name in sys.modules and sys.modules[name].__file__ == str(path):
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up while it is being executed
    if (beside := Beside(path.parent)) not in sys.meta_path:
        sys.meta_path.append(beside)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@dataclass(frozen=True)
class Beside:
    """Finds modules in a folder after all others, by their file names alone: behind the wall no folder is listed."""

    folder: Path

    def find_spec(self, name: str, path=None, target=None):
        """Of a module `helper` or `package.helper`; None if no such file lies in the folder."""
        stem = self.folder.joinpath(*name.split("."))
        if (package := stem / "__init__.py").is_file():
            return importlib.util.spec_from_file_location(name, package, submodule_search_locations=[str(stem)])
        file = stem.with_suffix(".py")
        return importlib.util.spec_from_file_location(name, file) if file.is_file() else None
