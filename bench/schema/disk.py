"""Files that are written whole or not at all, and a folder that one run holds at a time."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bench.errors import BadInput

ADVICE = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space or raise the quota",
    errno.EROFS: "choose another folder with --results",
    errno.EACCES: "make it writable or choose another folder with --results",
    errno.EPERM: "make it writable or choose another folder with --results",
}


def replace(path: Path, content: str | bytes) -> None:
    """Writes a file in one move, its folder too; raises BadInput where that fails, the old file then intact."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
    except OSError as error:
        raise BadInput(f"{path} was not saved ({error.strerror}): {_way_out(error)}, then run again") from error


def _way_out(error: OSError) -> str:
    return ADVICE.get(error.errno, "choose another folder with --results")


def check_disk(root: Path) -> None:
    """Raises BadInput unless `root` can be created and written to; leaves nothing behind but the folder."""
    probe = Path(root, f".probe.{os.getpid()}.tmp")
    try:
        replace(probe, "x")
        probe.unlink()
    except (OSError, BadInput) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        raise BadInput(f"results folder {root} cannot be written ({cause.strerror}): {_way_out(cause)}") from error


@contextmanager
def locked(path: Path, *, blocking: bool = True) -> Iterator[None]:
    """Holds the lock file `path`. The kernel frees it when the process ends, however it ends.

    Raises:
        Timeout: of filelock, unless `blocking`, where another process holds it.
        BadInput: where the file system grants no locks.
    """
    from filelock import FileLock, Timeout

    guard = FileLock(path, fallback_to_soft=False)  # a file that stands for a lock would outlive a killed run
    try:
        guard.acquire(blocking=blocking)
    except Timeout:
        raise
    except OSError as error:
        raise BadInput(
            f"{path} cannot be locked ({error.strerror}), as on some network file systems: choose a folder on another "
            "disk with --results and --cache"
        ) from error
    try:
        yield
    finally:
        guard.release()


@contextmanager
def lock(root: Path) -> Iterator[None]:
    """Holds `root` for one run; raises BadInput at once where another run holds it. Readers need no lock."""
    from filelock import Timeout

    check_disk(root)
    folder = Path(root, ".lock")
    folder.mkdir(exist_ok=True)
    holder = folder / "pid"  # beside the lock, because some versions of filelock empty the lock file on opening
    try:
        with locked(folder / "lock", blocking=False):
            holder.write_text(f"{os.getpid()}\n")
            yield
    except Timeout as error:
        pid = holder.read_text().strip() if holder.exists() else "unknown"
        raise BadInput(
            f"results folder {root} is in use by another run (process {pid}): "
            "wait for it, stop it, or choose another folder with --results"
        ) from error
