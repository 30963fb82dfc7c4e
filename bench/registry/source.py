"""Of what source a plugin is: its file and whatever of its own it imports, so that a changed one is seen."""

import ast
import hashlib
import io
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from bench import registry
from bench.errors import BadInput
from bench.registry.entry import Entry


def source_digest(entry: Entry) -> str:
    """SHA-256 of the code of a plugin and of the modules that it imports from beside it and from the project's plugin
    folders, at any depth; the bench itself, whose version a record tells, does not count.

    Comments, docstrings and blank lines change no number, so they are not in it.

    Raises:
        BadInput: if one of the files cannot be read.
    """
    first, *others = (hashlib.sha256(_code(_source(file, entry)).encode()) for file in source_files(entry))
    for text in sorted(other.digest() for other in others):
        first.update(text)
    return first.hexdigest()


def source_files(entry: Entry) -> list[Path]:
    """The file of a plugin, then those that `source_digest` counts with it. Raises BadInput as that does."""
    files = [entry.file.resolve()]
    for file in files:
        files += [other for other in dict.fromkeys(_imported_files(file, entry)) if other not in files]
    return files


def from_outside(entry: Entry) -> bool:
    """Whether a plugin does not come with the project: given with --plugin, or another package's."""
    return not entry.file.resolve().is_relative_to(registry.ROOT / registry.FOLDERS[entry.kind])


def _source(file: Path, entry: Entry) -> bytes:
    try:
        return file.read_bytes().replace(b"\r\n", b"\n")
    except OSError as error:
        raise BadInput(
            f"{entry.kind} {entry.name!r} ({file}) cannot be read: {error.strerror}; mend the file."
        ) from error


@cache
def _nodes(source: bytes) -> list[ast.AST]:
    """Imports, and what has docstrings."""
    kinds = ast.Import | ast.ImportFrom | ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, kinds)]


@cache
def _code(source: bytes) -> str:
    """The lines of a file without what only people read. As text: a parsed tree differs between versions of Python."""
    lines = source.decode().splitlines()
    for token in tokenize.tokenize(io.BytesIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in _nodes(source):
        if not isinstance(node, ast.Import | ast.ImportFrom) and ast.get_docstring(node, clean=False) is not None:
            text = node.body[0]
            before = lines[text.lineno - 1].encode()[: text.col_offset]
            after = lines[text.end_lineno - 1].encode()[text.end_col_offset :]
            lines[text.lineno - 1 : text.end_lineno] = [""] * (text.end_lineno - text.lineno + 1)
            lines[text.lineno - 1] = (before + after).decode()
    return "\n".join(line.rstrip() for line in lines if line.strip())


def _imported_files(file: Path, entry: Entry) -> Iterator[Path]:
    try:
        nodes = _nodes(_source(file, entry))
    except SyntaxError as error:
        raise BadInput(f"{entry.kind} {entry.name!r} ({file}) cannot be read: {error}; mend the file.") from error
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _files_of(alias.name, file.parent)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            folder = file.parents[node.level - 1] if node.level else file.parent
            for name in (module, *(f"{module}.{alias.name}".strip(".") for alias in node.names)):
                yield from _files_of(name, folder, relative=bool(node.level))


def _files_of(module: str, folder: Path, *, relative: bool = False) -> Iterator[Path]:
    """The files of a module and of the packages around it, below `folder` or in the project's plugin folders."""
    parts = [part for part in module.split(".") if part]
    own = {name.partition("/")[0] for name in registry.FOLDERS.values()}
    root = registry.ROOT if not relative and parts and parts[0] in own else folder
    for depth in range(1, len(parts) + 1):
        stem = root.joinpath(*parts[:depth])
        for file in (stem.with_suffix(".py"), stem / "__init__.py"):
            if file.is_file():
                yield file.resolve()
