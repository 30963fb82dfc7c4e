"""Hears from the kernel what a step's processes try and are refused, whatever they make of the refusal.

Of the system calls of `bench.wall.system_calls` the kernel asks this side before it goes on
(Documentation/userspace-api/seccomp_filter.rst, SECCOMP_RET_USER_NOTIF). Those that are refused get their refusal from
here; those that lead to files go on to Landlock, which refuses what is outside, and are noted here if they do lead
there. A path is read from the process's memory, which other threads of it may change meanwhile: what is closed is not a
matter of what was read, and what is named is what was there.
"""

import errno
import os
import platform
import socket
import struct
from contextlib import suppress
from fcntl import ioctl

from bench.wall.confinement import MACHINES
from bench.wall.system_calls import FILES, GUARDED, REFUSED

ASKED, ANSWER = struct.Struct("QIIiIQ6Q"), struct.Struct("QqiI")  # struct seccomp_notif, struct seccomp_notif_resp
RECEIVE, SEND, GO_ON = 0xC0502100, 0xC0182101, 1  # SECCOMP_IOCTL_NOTIF_RECV, ..._SEND, ..._FLAG_CONTINUE
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
LONGEST, SHOWN, MOST = 4096, 300, 50  # bytes of a path; letters of an attempt, and attempts, that are kept
HERE = -100  # AT_FDCWD


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
        column = MACHINES.get(platform.machine(), (0,))[0]
        refused = [(name, group, numbers) for group, calls in REFUSED.items() for name, numbers in calls.items()]
        refused += [(name, group, guard.numbers) for group, calls in GUARDED.items() for name, guard in calls.items()]
        self.refusals = {numbers[column]: (name, group) for name, group, numbers in refused}
        self.files = {numbers[column]: (name, places) for name, (numbers, places) in FILES.items()}

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
        number, process, _, call, _, _, *arguments = ASKED.unpack(asked)
        if call in self.files:
            name, places = self.files[call]
            self._note_files(name, process, arguments, places)
        if call in self.files or self._harmless(call, arguments):
            answer = ANSWER.pack(number, 0, 0, GO_ON)
        else:
            self._note(call, process, arguments)
            answer = ANSWER.pack(number, 0, -errno.EPERM, 0)
        with suppress(OSError):
            ioctl(self.listener, SEND, answer)
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
            said = os.fsdecode(_string(process, arguments[path])) if path is not None and arguments[path] else ""
            here = folder is None or (arguments[folder] & 0xFFFFFFFF) == HERE & 0xFFFFFFFF
            base = f"/proc/{process}/{'cwd' if here else f'fd/{arguments[folder] & 0xFFFFFFFF}'}"
            base = "/" if said.startswith("/") else os.readlink(base)
        except (OSError, OverflowError):
            self._say(f"{what} a file whose name it hides")
            return
        # Of that process, not of the one that reads this
        for alias, place in (
            ("/proc/self", ""),
            ("/proc/thread-self", ""),
            ("/proc/mounts", "/mounts"),
            ("/dev/fd", "/fd"),
        ):
            if _within(said, alias):
                said = f"/proc/{process}{place}{said.removeprefix(alias)}"
        real = os.path.realpath(os.path.join(base, said))
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


def _string(process: int, address: int) -> bytes:
    """Text in the memory of a process up to its zero byte; OSError where it cannot be read."""
    found = b""
    with open(f"/proc/{process}/mem", "rb", buffering=0) as memory:
        while len(found) < LONGEST and b"\0" not in found:
            memory.seek(address + len(found))
            part = memory.read(256 - (address + len(found)) % 256)  # never beyond the end of its page
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
