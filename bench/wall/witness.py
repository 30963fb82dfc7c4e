"""Hears from the kernel what a step's processes try and are refused, whatever they make of the refusal.

Of the system calls of `bench.wall.system_calls` the kernel asks this side before it goes on
(Documentation/userspace-api/seccomp_filter.rst, SECCOMP_RET_USER_NOTIF). Those that are refused get their refusal from
here; those that lead to files go on to Landlock, which refuses what is outside, and are noted here if they do lead
there. A path is read from the process's memory, which other threads of it may change meanwhile: what is closed is not a
matter of what was read, and what is named is what was there. Sizes and times of files, which Landlock lets everybody
ask for, are asked for by this side in the process's place: of the file that it looked at, whatever became of the path.
"""

import ctypes
import errno
import os
import platform
import socket
import stat
import struct
from contextlib import suppress
from fcntl import ioctl

from bench.wall.confinement import MACHINES, system_call
from bench.wall.system_calls import FILES, GUARDED, REFUSED, SIZES, Size

ASKED, ANSWER = struct.Struct("QIIiIQ6Q"), struct.Struct("QqiI")  # struct seccomp_notif, struct seccomp_notif_resp
RECEIVE, SEND, GO_ON = 0xC0502100, 0xC0182101, 1  # SECCOMP_IOCTL_NOTIF_RECV, ..._SEND, ..._FLAG_CONTINUE
IS_VALID = 0x40082102  # SECCOMP_IOCTL_NOTIF_ID_VALID: who asked is still there, so its number is no other's
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
LONGEST, SHOWN, MOST = 4096, 300, 50  # bytes of a path; letters of an attempt, and attempts, that are kept
HERE, NO_FOLLOW, EMPTY_PATH = -100, 0x100, 0x1000  # AT_FDCWD, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH


class Witness:
    """Of all processes below this one, once the first of them has sent the kernel's descriptor to `end`.

    `refused` holds what they tried, in words, and how often.

    Not noted are attempts that libraries make of their own accord and that lead nowhere: files that are not there,
    listing a folder above one that is open and reading compiled sources (Python's imports do both), what /proc and /sys
    tell of the machine, Unix sockets (of the name service), a semaphore (of tqdm), and changing one's own scratch
    files.
    """

    def __init__(self, end: socket.socket):
        self.end, self.listener = end, -1
        self.readable: list[str] = []
        self.writable: list[str] = []
        self.refused: dict[str, int] = {}
        self.column = column = MACHINES.get(platform.machine(), (0,))[0]
        refused = [(name, group, numbers) for group, calls in REFUSED.items() for name, numbers in calls.items()]
        refused += [(name, group, guard.numbers) for group, calls in GUARDED.items() for name, guard in calls.items()]
        self.refusals = {numbers[column]: (name, group) for name, group, numbers in refused}
        self.files = {numbers[column]: (name, places) for name, (numbers, places) in FILES.items()}
        self.sizes = {size.numbers[column]: (name, size) for name, size in SIZES.items()}

    def fileno(self) -> int:
        """What to wait for."""
        return self.end.fileno() if self.listener < 0 else self.listener

    def hear(self) -> bool:
        """Take the next word; False when there will be none."""
        if self.listener < 0:
            said, descriptors, *_ = socket.recv_fds(self.end, 1 << 20, 1)
            if not descriptors:
                return False
            readable, _, writable = said.decode().partition("\0\0\0")
            self.readable, self.writable = readable.split("\0"), writable.split("\0")
            self.listener = descriptors[0]
            return True
        asked = bytearray(ASKED.size)
        try:
            ioctl(self.listener, RECEIVE, asked)
        except OSError as error:
            return error.errno in (errno.EINTR, errno.ENOENT)  # it was killed meanwhile
        number, process, _, called, _, _, *arguments = ASKED.unpack(asked)
        if called in self.sizes:
            error, flags = errno.EACCES, 0
            with suppress(OSError):  # its memory is closed, or it is there no more
                error = self._tell_size(number, process, arguments, *self.sizes[called])
        elif called in self.files:
            name, places = self.files[called]
            self._note_files(name, process, arguments, places)
            error = self._unfounded(name, places, arguments)
            flags = 0 if error else GO_ON
        elif self._harmless(called, arguments):
            error, flags = 0, GO_ON
        else:
            self._note(called, process, arguments)
            error, flags = errno.EPERM, 0
        with suppress(OSError):
            ioctl(self.listener, SEND, ANSWER.pack(number, 0, -error, flags))
        return True

    def close(self) -> None:
        """Let go of the kernel's descriptor: calls that still wait are answered with an error."""
        self.end.close()
        if self.listener >= 0:
            os.close(self.listener)

    def _harmless(self, call: int, arguments: list[int]) -> bool:
        """Whether it asks for a signal's handler only, or limits a process that this one is to count anyway."""
        name, group = self.refusals.get(call, ("", ""))
        own = group == "limits of other processes" and _is_below(arguments[0] & 0xFFFFFFFF)
        return own or (name == "rt_sigaction" and not arguments[1])

    @staticmethod
    def _unfounded(name: str, places, arguments: list[int]) -> int:
        """The error for what would find a file without opening it, where Landlock is not asked; 0 for all else."""
        if name == "openat2":  # its flags are in memory, and who finds no such call has others
            return errno.ENOSYS
        finds = name in ("open", "openat") and arguments[places[0][1] + 1] & os.O_PATH
        return errno.EACCES if finds else 0

    def _tell_size(self, number: int, process: int, arguments: list[int], name: str, size: Size) -> int:
        """Write size and times of a file to where a process has asked for them; returns 0, or the error it gets.

        A plain file that is closed to it is not there.

        Raises:
            OSError: if the process has gone.
        """
        memory = os.open(f"/proc/{process}/mem", os.O_RDWR)
        try:
            ioctl(self.listener, IS_VALID, struct.pack("Q", number))
            flags = arguments[size.flags] & 0xFFFFFFFF if size.flags is not None else NO_FOLLOW * (name == "lstat")
            try:
                said = os.fsdecode(_string(memory, arguments[size.path])) if arguments[size.path] else ""
                found = self._size_of(process, said, arguments, flags, name, size)
                os.pwrite(memory, found, arguments[size.answer])
            except OSError as error:
                return errno.EFAULT if error.errno == errno.EIO else error.errno
            except OverflowError:
                return errno.EFAULT
            return 0
        finally:
            os.close(memory)

    def _size_of(self, process: int, said: str, arguments: list[int], flags: int, name: str, size: Size) -> bytes:
        if not said and not flags & EMPTY_PATH:
            raise OSError(errno.ENOENT, "no path")
        base = _folder_of(process, arguments, size.folder)
        path = _seen_by(process, said) if said.startswith("/") else f"{base}/{said}" if said else base
        last = os.O_NOFOLLOW if said and flags & NO_FOLLOW else 0
        file = os.open(path, os.O_PATH | os.O_CLOEXEC | last)
        try:
            where = os.readlink(f"/proc/self/fd/{file}")
            plain, opened = stat.S_ISREG(os.fstat(file).st_mode), not said and not base.endswith("/cwd")
            if plain and not opened and not self._is_open("read", where):
                self._say(f"ask for the size of {where}")
                raise OSError(errno.ENOENT, "closed to it")
            answer = bytearray(size.lengths[self.column])
            place = (ctypes.c_char * len(answer)).from_buffer(answer)
            if name == "statx":
                system_call(size.numbers[self.column], file, b"", flags | EMPTY_PATH, arguments[3] & 0xFFFFFFFF, place)
            else:
                system_call(SIZES["newfstatat"].numbers[self.column], file, b"", place, EMPTY_PATH)
            return bytes(answer)
        finally:
            os.close(file)

    def _say(self, what: str) -> None:
        what = what[:SHOWN]
        if what in self.refused or len(self.refused) < MOST:
            self.refused[what] = self.refused.get(what, 0) + 1

    def _note_files(self, name: str, process: int, arguments: list[int], places) -> None:
        if name == "kill":
            (target,) = struct.unpack("i", struct.pack("I", arguments[0] & 0xFFFFFFFF))  # below 0: a group
            if target != 0 and not _is_below(abs(target)):
                self._say(f"send a signal to process {target}" if target != -1 else "send a signal to all processes")
            return
        writes = name not in ("open", "openat", "openat2", "execve")
        if name in ("open", "openat"):
            writes = bool(arguments[places[0][1] + 1] & WRITING)
        for folder, path in places:
            self._note_path("write" if writes else "read", process, arguments, folder, path)

    def _note(self, call: int, process: int, arguments: list[int]) -> None:
        name, group = self.refusals.get(call, (f"system call {call}", ""))
        if group == "modes and times of files":
            if name.startswith("f") and "at" not in name:  # of an open file
                self._note_path("change", process, arguments, 0, None)
            else:
                self._note_path("change", process, arguments, *((0, 1) if "at" in name[-4:] else (None, 0)))
        elif name == "socket":
            family = arguments[0] & 0xFFFFFFFF
            if family != socket.AF_UNIX:
                with suppress(ValueError):
                    family = socket.AddressFamily(family).name
                self._say(f"open a socket ({family})")
        else:
            self._say(f"{name} ({group})")

    def _note_path(self, what: str, process: int, arguments: list[int], folder: int | None, path: int | None) -> None:
        try:
            said = os.fsdecode(_text_of(process, arguments[path])) if path is not None and arguments[path] else ""
            base = "/" if said.startswith("/") else os.readlink(_folder_of(process, arguments, folder))
        except (OSError, OverflowError) as error:
            deep = getattr(error, "errno", 0) == errno.ENAMETOOLONG
            self._say(f"{what} {'below a folder too deep for its path' if deep else 'a file whose name it hides'}")
            return
        real = os.path.realpath(os.path.join(base, _seen_by(process, said)))
        if not self._is_open(what, real):
            self._say(f"{what} {real}")

    def _is_open(self, what: str, path: str) -> bool:
        if not path.startswith("/") or any(_within(path, place) for place in self.writable):
            return True
        if what != "read":
            return path.startswith("/dev/shm/sem.")
        if any(_within(path, place) or _within(place, path) for place in self.readable) or not os.path.lexists(path):
            return True
        if "/__pycache__/" in path:
            return True
        if path.startswith("/proc/"):
            owner = path.split("/")[2]
            return not owner.isdigit() or _is_below(int(owner))
        return path.startswith("/sys/")


def _within(path: str, place: str) -> bool:
    return path == place or path.startswith(place.rstrip("/") + "/")


def _folder_of(process: int, arguments: list[int], folder: int | None) -> str:
    """Where a path begins that starts nowhere: at the folder among the arguments, or where the process is."""
    number = HERE & 0xFFFFFFFF if folder is None else arguments[folder] & 0xFFFFFFFF
    return f"/proc/{process}/{'cwd' if number == HERE & 0xFFFFFFFF else f'fd/{number}'}"


def _seen_by(process: int, path: str) -> str:
    """A path as that process means it, not the one that reads this."""
    for alias, place in (
        ("/proc/self", ""),
        ("/proc/thread-self", ""),
        ("/proc/mounts", "/mounts"),
        ("/dev/fd", "/fd"),
    ):
        if _within(path, alias):
            path = f"/proc/{process}{place}{path.removeprefix(alias)}"
    return path


def _text_of(process: int, address: int) -> bytes:
    memory = os.open(f"/proc/{process}/mem", os.O_RDONLY)
    try:
        return _string(memory, address)
    finally:
        os.close(memory)


def _string(memory: int, address: int) -> bytes:
    """Text in the memory of a process up to its zero byte; OSError where it cannot be read."""
    found = b""
    while len(found) < LONGEST and b"\0" not in found:
        at = address + len(found)
        part = os.pread(memory, 256 - at % 256, at)  # never beyond the end of its page
        if not part:
            raise OSError(errno.EFAULT, "its memory has gone")
        found += part
    return found.partition(b"\0")[0]


def _is_below(process: int) -> bool:
    """Whether a process was started by this one, or by what this one started."""
    parent = process
    with suppress(OSError):
        while parent > 1:
            with open(f"/proc/{parent}/stat") as file:
                parent = int(file.read().rpartition(")")[2].split()[1])
            if parent == os.getpid():
                return True
    return False
