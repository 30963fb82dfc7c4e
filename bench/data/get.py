"""Real, openly available images from their authors' own places, laid out in MVTec's folders as a recipe says."""

from __future__ import annotations

import contextlib
import errno
import io
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from bench.data import masks, recipes
from bench.data.fingerprint import fingerprint, read_json, write_json
from bench.data.listing import listing
from bench.data.recipes import File, Recipe
from bench.data.sources import Read, opened_source, sha256_of
from bench.errors import BadInput
from bench.schema import stream as streams

AT_ONCE = 8  # downloads
HIDDEN = ".get"  # folder below the target: what was fetched to make masks from, and what was made
MASKS = {
    "polygons": masks.mask_of_polygons,
    "boxes": masks.mask_of_boxes,
    "indices": masks.mask_of_indices,
    "grey": masks.mask_of_grey,
    "none": None,
}


@dataclass(frozen=True)
class Got:
    """What stands in the folder after `get`."""

    folder: Path
    images: int
    streams: dict[str, tuple[str, bool]]  # stream -> fingerprint, whether it is the recorded one


Progress = Callable[[int, int], None]  # called with (images there, images in all)


def get(
    name: str, to: Path, source: Path | None = None, *, accept_licence: bool = False, progress: Progress | None = None
) -> Got:
    """Lay out the images of a recipe in `to`, and nothing outside of it; interrupted, the next call goes on.

    `source` is a folder with copies of the repositories: clones, unpacked archives, or zip and tar files as they are.
    Without it every file is fetched from its authors' place. Each is compared with its sha256.
    Raises BadInput for an unknown recipe, a licence that is not accepted, a changed, missing or extra file, a hostile
    path, a full disk, and a source that cannot be reached.
    """
    if name not in recipes.recipe_names():
        raise BadInput(f"There is no recipe {name!r}: there are {', '.join(recipes.recipe_names())}.")
    whole, _, single = name.partition("/")
    index, paths = recipes.recipe_yaml(recipes.shelf() / f"{whole}.yaml"), (recipes.shelf() / whole).glob("*.yaml")
    wanted = [recipes.recipe(path) for path in sorted(paths) if path.stem == (single or path.stem)]
    if not accept_licence:
        classes = defaultdict(list)
        for each in wanted:
            classes[f"{each.licence} ({each.credit}, {each.source})"].append(each.name)
        told = "\n".join(f"  {', '.join(of)}: {licence}" for licence, of in classes.items())
        raise BadInput(f"The images of {name} have licences of their own; accept them with --accept-licence:\n{told}")
    to = Path(to).expanduser()
    total, there = sum(len(each.files) for each in wanted), 0
    with _told(to):
        (to / HIDDEN).mkdir(parents=True, exist_ok=True)
        for each in wanted:
            _refuse_links(to, each)
            with opened_source(each, source, to / HIDDEN) as read:
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
        if sha256_of(image.read_bytes()) != file.sha256:
            raise BadInput(f"{image} is not the file of the recipe any more: remove it and call this again.")
    else:
        _write(image, read(file.path, file.sha256))
    if file.mask_path is None:
        return str(file.mask_target), None
    known = made.get(str(file.mask_target))
    if hidden.is_file() and known:
        if sha256_of(hidden.read_bytes()) != known:
            raise BadInput(f"{hidden} is not the mask that was made any more: remove it and call this again.")
        return str(file.mask_target), known
    with Image.open(image) as picture:
        size = picture.size
    mask = MASKS[recipe.masks](read(file.mask_path, file.mask_sha256), size)
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "BMP")
    _write(hidden, buffer.getvalue())
    return str(file.mask_target), sha256_of(buffer.getvalue())


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    part.replace(path)


def got_lines(got: Got) -> Sequence[str]:
    """What to tell after `get`."""
    told = [f"{got.folder}: {got.images} images, every one as its authors published it"]
    for stream, (found, same) in got.streams.items():
        verdict = "as recorded" if same else "not the recorded one: masks are drawn otherwise by this version of Pillow"
        told.append(f"{stream}  fingerprint {found[:16]}, {verdict}")
    if got.streams:
        told.append(f"next: python -m bench run --scenario {next(iter(got.streams))} --data {os.fspath(got.folder)}")
    return told
