"""Real, openly available images from their authors' own places, laid out in MVTec's folders as a recipe says."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import tarfile
import threading
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import resources
from pathlib import Path, PurePosixPath
from urllib.parse import quote

import numpy as np
from PIL import Image, ImageDraw

from bench.data.download import fetch
from bench.data.fingerprint import fingerprint, read_json, write_json
from bench.data.listing import listing
from bench.errors import BadInput
from bench.schema import stream as streams

AT_ONCE = 8  # downloads
HIDDEN = ".get"  # folder below the target: what was fetched to make masks from, and what was made


@dataclass(frozen=True)
class File:
    """One image of a recipe, and what its mask is made from."""

    target: PurePosixPath  # below the data folder: class, split, kind and name
    path: str  # in its source, below the recipe's folder
    sha256: str
    mask_path: str | None
    mask_sha256: str | None

    @property
    def mask_target(self) -> PurePosixPath:
        """A bitmap, which has the same bytes whatever library writes it: they count in the fingerprint."""
        name, _, kind = self.target.parts[:3]
        return PurePosixPath(name, "ground_truth", kind, f"{self.target.stem}_mask.bmp")


@dataclass(frozen=True)
class Recipe:
    """Where the images of one class are, and how they are laid out."""

    name: str  # of the class
    source: str  # address of the repository
    commit: str
    url: str  # of one file, with {commit} and {path}
    licence: str
    credit: str
    masks: str  # a key of MASKS: what the masks are made from
    files: tuple[File, ...]


@dataclass(frozen=True)
class Got:
    """What stands in the folder after `get`."""

    folder: Path
    images: int
    streams: dict[str, tuple[str, bool]]  # stream -> fingerprint, whether it is the recorded one


Progress = Callable[[int, int], None]  # called with (images there, images in all)
Read = Callable[[str, str], bytes]  # content of a file of the source, by path and sha256


def get(
    name: str, to: Path, source: Path | None = None, *, accept_licence: bool = False, progress: Progress | None = None
) -> Got:
    """Lay out the images of a recipe in `to`, and nothing outside of it; interrupted, the next call goes on.

    `source` is a folder with copies of the repositories: clones, unpacked archives, or zip and tar files as they are.
    Without it every file is fetched from its authors' place. Each is compared with its sha256.
    Raises BadInput for an unknown recipe, a licence that is not accepted, a changed, missing or extra file, a hostile
    path, a full disk, and a source that cannot be reached.
    """
    if name not in recipe_names():
        raise BadInput(f"There is no recipe {name!r}: there are {', '.join(recipe_names())}.")
    whole, _, single = name.partition("/")
    index = _yaml(shelf() / f"{whole}.yaml")
    recipes = [recipe(path) for path in sorted((shelf() / whole).glob("*.yaml")) if path.stem == (single or path.stem)]
    if not accept_licence:
        classes = defaultdict(list)
        for each in recipes:
            classes[f"{each.licence} ({each.credit}, {each.source})"].append(each.name)
        told = "\n".join(f"  {', '.join(of)}: {licence}" for licence, of in classes.items())
        raise BadInput(f"The images of {name} have licences of their own; accept them with --accept-licence:\n{told}")
    to = Path(to).expanduser()
    total, there = sum(len(each.files) for each in recipes), 0
    with _told(to):
        (to / HIDDEN).mkdir(parents=True, exist_ok=True)
        for each in recipes:
            _refuse_links(to, each)
            with _reader(each, source, to / HIDDEN) as read:
                for done in _lay_out(each, to, read):
                    if progress:
                        progress(there + done, total)
            there += len(each.files)
            _refuse_extra(to, each)
        told = {}
        for stream, recorded in index["streams"].items() if name == whole else ():
            found = fingerprint(listing(streams.load_stream(stream), to), to / HIDDEN)
            told[stream] = (found, found == recorded)
    return Got(to, total, told)


def recipe_names() -> list[str]:
    """What can be got: recipes, and single classes as recipe/class."""
    found = []
    for path in sorted(shelf().glob("*.yaml")):
        found += [path.stem, *(f"{path.stem}/{each.stem}" for each in sorted((shelf() / path.stem).glob("*.yaml")))]
    return found


def shelf() -> Path:
    """Folder of the recipes."""
    return Path(str(resources.files("scenarios") / "recipes"))


def recipe(path: Path) -> Recipe:
    """Read the recipe of one class; raises BadInput for one that would write or read outside of its folders."""
    content = _yaml(path)
    below, files = content.get("folder", ""), []
    for place, rows in content["files"].items():
        for row in rows:
            image, digest, *hidden = row
            target = PurePosixPath(content["class"], place, PurePosixPath(image).name)
            mask_path, mask_digest = hidden or (None, None)
            sources = [str(PurePosixPath(below, each)) for each in (image, mask_path) if each]
            for each in (str(target), *sources):
                if not _is_below(each) or (each == str(target) and len(target.parts) != 4):
                    raise BadInput(f"The recipe {path} has the path {each!r}, which leads elsewhere: do not use it.")
            files.append(File(target, sources[0], digest, sources[1] if mask_path else None, mask_digest))
    keys = ("source", "commit", "url", "licence", "credit", "masks")
    return Recipe(content["class"], *(content[key] for key in keys), tuple(files))


def _yaml(path: Path) -> dict:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(path.read_text(encoding="utf-8"), loader)


def _is_below(path: str) -> bool:
    pure = PurePosixPath(path)
    return not (pure.is_absolute() or ".." in pure.parts or "\\" in path or ":" in pure.parts[0])


@contextlib.contextmanager
def _told(to: Path) -> Iterator[None]:
    """Turns what the file system says into a sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise BadInput(f"The disk of {to} is full: make room, and the same command goes on.") from error
        raise BadInput(f"{error.filename or to} cannot be written or read ({error.strerror}).") from error


def _refuse_links(to: Path, recipe: Recipe) -> None:
    """A link in the target folder would lead the writing elsewhere."""
    top = to.resolve()
    folders = {parent for file in recipe.files for path in (file.target, file.mask_target) for parent in path.parents}
    for folder in sorted({str(folder) for folder in folders} | {HIDDEN}):
        if not (to / folder).resolve().is_relative_to(top):
            raise BadInput(f"{to / folder} is a link to {(to / folder).resolve()}, outside of {to}: remove it.")


def _refuse_extra(to: Path, recipe: Recipe) -> None:
    wanted = {str(file.target) for file in recipe.files} | {str(file.mask_target) for file in recipe.files}
    for path in sorted((to / recipe.name).rglob("*")):
        if not path.is_dir() and not path.name.startswith(".") and path.relative_to(to).as_posix() not in wanted:
            raise BadInput(f"{path} does not belong to the recipe of {recipe.name}: take it out.")


def _lay_out(recipe: Recipe, to: Path, read: Read) -> Iterator[int]:
    """Puts every image and mask of a class in its place; yields how many images are there."""
    record = to / HIDDEN / f"{recipe.name}.json"
    made = read_json(record) or {}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        jobs = pool.map(lambda file: _put(file, recipe, to, read, made), recipe.files)
        try:
            for done, (target, digest) in enumerate(jobs, start=1):
                if digest:
                    made[target] = digest
                yield done
        finally:
            pool.shutdown(cancel_futures=True)
            write_json(record, made)


def _put(file: File, recipe: Recipe, to: Path, read: Read, made: dict) -> tuple[str, str | None]:
    """(place of the mask, sha256 of what was made of it); an image or a mask that is there already is compared."""
    image, hidden = to / file.target, to / file.mask_target
    if image.is_file():
        if _sha256(image.read_bytes()) != file.sha256:
            raise BadInput(f"{image} is not the file of the recipe any more: remove it and call this again.")
    else:
        _write(image, read(file.path, file.sha256))
    if file.mask_path is None:
        return str(file.mask_target), None
    known = made.get(str(file.mask_target))
    if hidden.is_file() and known:
        if _sha256(hidden.read_bytes()) != known:
            raise BadInput(f"{hidden} is not the mask that was made any more: remove it and call this again.")
        return str(file.mask_target), known
    with Image.open(image) as picture:
        size = picture.size
    mask = MASKS[recipe.masks](read(file.mask_path, file.mask_sha256), size)
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "BMP")
    _write(hidden, buffer.getvalue())
    return str(file.mask_target), _sha256(buffer.getvalue())


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    part.replace(path)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# ---- sources


@contextlib.contextmanager
def _reader(recipe: Recipe, source: Path | None, hidden: Path) -> Iterator[Read]:
    """What reads a file of the recipe's repository, and refuses one with other bytes."""
    if source is None:

        def fetched(path: str, digest: str) -> bytes:  # what broke off lies below `hidden`, and is gone on with
            part = hidden / _sha256(f"{recipe.source} {path}".encode())  # two files may have the same content
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
            if _sha256(content) != digest:
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
    hostile = next((name for name in members if not name.strip("/") or not _is_below(name)), None)
    if hostile is not None:
        raise BadInput(f"The archive {archive} holds {hostile!r}, which leads outside of it: it is not to be trusted.")
    return members


# ---- masks: what the authors' annotations say, bool (H, W)


def _from_polygons(content: bytes, size: tuple[int, int]) -> np.ndarray:
    """labelme's JSON: every polygon is filled, whatever its label."""
    mask = Image.new("1", size)
    for shape in json.loads(content)["shapes"]:
        points = [(round(x), round(y)) for x, y in shape["points"]]
        ImageDraw.Draw(mask).polygon(points, fill=1, outline=1)
    return np.asarray(mask)


def _from_boxes(content: bytes, size: tuple[int, int]) -> np.ndarray:
    """Lines `x1 y1 x2 y2 type`: every box is filled."""
    mask = np.zeros(size[::-1], bool)
    for line in content.decode().splitlines():
        if line.strip():
            left, top, right, bottom = (int(number) for number in line.replace(",", " ").split()[:4])
            mask[top : bottom + 1, left : right + 1] = True
    return mask


def _from_indices(content: bytes, size: tuple[int, int]) -> np.ndarray:
    """A palette image: every index but 0 is a defect, whatever its colour; of true colours, every one but black."""
    values = np.asarray(Image.open(io.BytesIO(content)))
    return values > 0 if values.ndim == 2 else values[..., :3].any(axis=2)


def _from_grey(content: bytes, size: tuple[int, int]) -> np.ndarray:
    """A grey image with soft borders: above 127."""
    return np.asarray(Image.open(io.BytesIO(content)).convert("L")) > 127


MASKS = {"polygons": _from_polygons, "boxes": _from_boxes, "indices": _from_indices, "grey": _from_grey, "none": None}


def got_lines(got: Got) -> Sequence[str]:
    """What to tell after `get`."""
    told = [f"{got.folder}: {got.images} images, every one as its authors published it"]
    for stream, (found, same) in got.streams.items():
        verdict = "as recorded" if same else "not the recorded one: masks are drawn otherwise by this version of Pillow"
        told.append(f"{stream}  fingerprint {found[:16]}, {verdict}")
    if got.streams:
        told.append(f"next: python -m bench run --scenario {next(iter(got.streams))} --data {os.fspath(got.folder)}")
    return told
