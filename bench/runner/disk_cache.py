"""A folder of tensors that may be lost at any time: what is damaged, evicted or cannot be written is not there."""

import os
import zlib
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

SUFFIX = ".safetensors"
SLACK = 50  # the folder is measured again whenever a process has written this part of the limit


class Shelf:
    """Named groups of CPU tensors, at most `limit` bytes of files; what was not read for longest goes first.

    Several processes may share a folder. Each keeps to the limit within a fiftieth of it.
    """

    def __init__(self, folder: Path, limit: float):
        self.folder, self.limit = folder, limit
        self._notes: dict[str, str] = {}  # for a disk that takes none
        self._unmeasured = limit  # bytes that may have been written since the folder was measured

    def read(self, name: str) -> dict[str, Tensor] | None:
        """Return a group as it was written, or None; a damaged file goes."""
        path = self._path(name)
        try:
            with safe_open(path, "pt") as file:
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - it is no dict
                whole = file.metadata() == {"crc32": _checksum(tensors)}
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError):
            whole = False
        with suppress(OSError):
            if whole:
                os.utime(path)
                return tensors
            path.unlink()
        return tensors if whole else None

    def write(self, name: str, tensors: dict[str, Tensor]) -> None:
        """Put a group of contiguous tensors there, in one move; a full or read-only disk is no error.

        Beyond the limit the files go that were not read for longest.
        """
        content = save(tensors, {"crc32": _checksum(tensors)})
        if not _put(self._path(name), content):
            return
        self._unmeasured += len(content)
        if self._unmeasured * SLACK < self.limit:
            return
        files, self._unmeasured = [], 0
        for path in self.folder.rglob(f"*{SUFFIX}*"):  # with what killed processes left half written
            with suppress(OSError):  # another process may evict too
                status = path.stat()
                files.append((status.st_mtime_ns, status.st_size, path))
        excess = sum(size for _, size, _ in files) - self.limit
        for _, size, path in sorted(files):
            if excess <= 0:
                return
            with suppress(OSError):
                path.unlink()
            excess -= size

    def note(self, name: str, text: str) -> None:
        """Write a word to remember; it is never evicted."""
        self._notes[name] = text
        _put(self.folder / f"{name}.txt", text.encode())

    def told(self, name: str) -> str:
        """The word noted last under a name, by any process; "" if there is none."""
        with suppress(OSError, UnicodeDecodeError):
            return (self.folder / f"{name}.txt").read_text()
        return self._notes.get(name, "")

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}{SUFFIX}"


def _put(path: Path, content: bytes) -> bool:
    """Write a file in one move; returns whether the disk took it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        return False
    return True


def _checksum(tensors: dict[str, Tensor]) -> str:
    total = 0
    for _, tensor in sorted(tensors.items()):
        total = zlib.crc32(tensor.numpy().reshape(-1).view("uint8"), total)
    return str(total)
