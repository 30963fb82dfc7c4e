"""Reads an .npz that a stranger may have made: numbers only, nothing run, nothing read before its size is known."""

import re
import stat
import zipfile
import zlib
from pathlib import Path
from types import TracebackType

import numpy as np

from bench.errors import BadInput

HEADER = 4096  # bytes of an array's header that are read at most: magic, dtype and shape take some 128
ENTRIES = 200_000  # more than any stream has, and few enough for the directory to be read
KINDS = "fiub"  # floats, whole numbers, booleans
FAULTS = (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, NotImplementedError, RuntimeError)


class Archive:
    """An .npz open for reading; `entries` maps each array's name to (dtype, shape), known without unpacking one.

    Raises:
        BadInput: if the file is no whole .npz of plain numbers under plain names.
    """

    def __init__(self, path: Path, limit: int | None = None):
        """Open `path`; a file of more bytes than `limit` is not looked into."""
        self.path = Path(path)
        if self.path.is_symlink():
            raise BadInput(f"{path} is a link: put the file itself there.")
        size = self.path.stat().st_size if self.path.is_file() else 0
        if limit is not None and size > limit:
            raise BadInput(f"{path} has {size:,} bytes, the largest right one {limit:,}: leave out what is not asked.")
        try:
            self._zip = zipfile.ZipFile(self.path)
        except FileNotFoundError:
            raise BadInput(f"there is no file {path}.") from None
        except FAULTS as error:
            raise BadInput(f"{path} is no .npz, or is cut short ({error}): write it again with np.savez.") from error
        try:
            self._infos = self._directory()
            self.entries = {name: self._header(name) for name in self._infos}
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._zip.close()

    def read(self, name: str) -> np.ndarray:
        """One array, whole."""
        try:
            with self._zip.open(self._infos[name]) as file:
                return np.lib.format.read_array(file, allow_pickle=False, max_header_size=HEADER)
        except FAULTS as error:
            raise self._bad(name, f"is broken ({error})") from error

    def _directory(self) -> dict[str, zipfile.ZipInfo]:
        found: dict[str, zipfile.ZipInfo] = {}
        if len(self._zip.infolist()) > ENTRIES:
            raise BadInput(f"{self.path} has {len(self._zip.infolist())} entries: no stream has that many arrays.")
        for info in self._zip.infolist():
            name = info.orig_filename
            if name.startswith(("/", "\\")) or re.search(r"(^|[/\\])\.\.([/\\]|$)|\\|^[A-Za-z]:[/\\]|\0", name):
                raise self._bad(name, "leads out of the archive")
            if stat.S_ISLNK(info.external_attr >> 16):
                raise self._bad(name, "is a link")
            if info.flag_bits & 1:
                raise self._bad(name, "is encrypted")
            if not name.endswith(".npy"):
                raise self._bad(name, "is no array (.npy)")
            if name.removesuffix(".npy") in found:
                raise self._bad(name, "is there twice")
            found[name.removesuffix(".npy")] = info
        return found

    def _header(self, name: str) -> tuple[np.dtype, tuple[int, ...]]:
        """dtype and shape as the array's first bytes tell them; the directory must tell the same size."""
        info = self._infos[name]
        try:
            with self._zip.open(info) as file:
                version = np.lib.format.read_magic(file)
                read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
                shape, _, dtype = read[version](file, max_header_size=HEADER)
                start = file.tell()
        except (*FAULTS, KeyError) as error:
            raise self._bad(name, "is no array of numbers (NumPy cannot read its header)") from error
        if dtype.hasobject:
            raise self._bad(name, "holds Python objects, which would be unpickled")
        if dtype.kind not in KINDS:
            raise self._bad(name, f"is of type {dtype}, not of numbers")
        if any(length < 0 for length in shape) or start + _bytes(dtype, shape) != info.file_size:
            raise self._bad(name, f"says shape {shape} of {dtype}, and its size is another")
        return dtype, shape

    def _bad(self, name: str, fault: str) -> BadInput:
        shown = name if len(name) <= 120 else f"{name[:117]}..."
        return BadInput(f"{self.path}: the entry {shown!r} {fault}; write the arrays with np.savez as documented.")


def _bytes(dtype: np.dtype, shape: tuple[int, ...]) -> int:
    size = dtype.itemsize
    for length in shape:
        size *= int(length)  # Python's own integers: no overflow
    return size
