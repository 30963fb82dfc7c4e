"""Where the files of a recipe are read from: their authors' place, a clone, an unpacked archive, or an archive."""

from __future__ import annotations

import contextlib
import hashlib
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

from bench.data.download import fetch
from bench.data.recipes import Recipe, is_below
from bench.errors import BadInput

Read = Callable[[str, str], bytes]  # content of a file of the source, by path and sha256


@contextlib.contextmanager
def opened_source(recipe: Recipe, source: Path | None, hidden: Path) -> Iterator[Read]:
    """What reads a file of the recipe's repository, and refuses one with other bytes."""
    if source is None:

        def fetched(path: str, digest: str) -> bytes:  # what broke off lies below `hidden`, and is gone on with
            part = hidden / sha256_of(f"{recipe.source} {path}".encode())  # two files may have the same content
            file = fetch(recipe.url.format(commit=recipe.commit, path=quote(path)), part, digest)
            content = file.read_bytes()
            file.unlink()
            return content

        yield fetched
        return
    source = Path(source).expanduser()
    if not source.is_dir():
        raise BadInput(f"There is no folder {source}: --from needs one with the authors' repositories in it.")
    with _found(recipe, source) as (where, read):

        def checked(path: str, digest: str) -> bytes:
            try:
                content = read(path)
            except (KeyError, FileNotFoundError, NotADirectoryError) as error:
                at = f"{recipe.source} has it at {recipe.commit}"
                raise BadInput(f"There is no file {path} in {where}: {at}.") from error
            if sha256_of(content) != digest:
                raise BadInput(f"{path} in {where} is not the file that {recipe.source} has at {recipe.commit}.")
            return content

        yield checked


@contextlib.contextmanager
def _found(recipe: Recipe, source: Path) -> Iterator[tuple[Path, Callable[[str], bytes]]]:
    """The copy of a repository below `source`: the place, and what reads a path of it."""
    asked = [file.path for file in recipe.files[:5]]
    folders = [source, *(path for path in sorted(source.glob("*")) if path.is_dir())]
    folders += [path for folder in folders[1:] for path in sorted(folder.glob("*")) if path.is_dir()]
    for folder in folders:
        if any((folder / path).is_file() for path in asked):
            yield folder, lambda path: (folder / path).read_bytes()  # noqa: B023 - the loop ends here
            return
    turn = threading.Lock()  # an archive is one file with one position
    for archive in sorted(path for path in source.iterdir() if path.is_file()):
        with contextlib.ExitStack() as stack:
            members = _members(archive, stack)
            top = next((name[: -len(path)] for path in asked for name in members if name.endswith(f"/{path}")), None)
            top = "" if any(path in members for path in asked) else top
            if top is not None:

                def read(path: str) -> bytes:
                    with turn:
                        return members[top + path]()  # noqa: B023 - the loop ends here

                yield archive, read
                return
    raise BadInput(
        f"There is no copy of {recipe.source} in {source}: put a clone or an archive of commit {recipe.commit} there."
    )


def _members(archive: Path, stack: contextlib.ExitStack) -> dict[str, Callable[[], bytes]]:
    """What reads each file of an archive; nothing for other files. Raises BadInput for a path that leads outside."""
    try:
        if zipfile.is_zipfile(archive):
            file = stack.enter_context(zipfile.ZipFile(archive))
            members = {info.filename: (lambda info=info: file.read(info)) for info in file.infolist()}
        elif tarfile.is_tarfile(archive):
            file = stack.enter_context(tarfile.open(archive))  # noqa: SIM115 - the stack closes it
            names = [each for each in file.getmembers() if each.isfile()]
            members = {each.name: (lambda each=each: file.extractfile(each).read()) for each in names}
        else:
            return {}
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise BadInput(f"The archive {archive} is damaged ({error}): fetch it again.") from error
    hostile = next((name for name in members if not name.strip("/") or not is_below(name)), None)
    if hostile is not None:
        raise BadInput(f"The archive {archive} holds {hostile!r}, which leads outside of it: it is not to be trusted.")
    return members


def sha256_of(content: bytes) -> str:
    """In hex digits."""
    return hashlib.sha256(content).hexdigest()
