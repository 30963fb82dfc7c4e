"""What the kernel of Linux refuses a process and all its descendants, for good, without any privilege.

Landlock closes files, TCP and signals; a seccomp filter closes what Landlock does not know: other sockets, what
outlives a process (System V memory and queues, keys, times, modes and attributes of files), and other processes'
memory and priority. Sources: landlock.rst and seccomp_filter.rst in Documentation/userspace-api of the kernel; system
calls by number, as the C library does not name them all.
"""

import ctypes
import os
import platform
import struct
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
VERSION_ASKED, RULE_PATH_BENEATH, NO_NEW_PRIVS = 1, 1, 38
EXECUTE, READ_FILE, READ_DIR = 1 << 0, 1 << 2, 1 << 3
ON_A_FILE = EXECUTE | 1 << 1 | READ_FILE | 1 << 14 | 1 << 15  # of the rights, those that make sense on a single file
OFF = "BENCH_NO_LANDLOCK"  # set in the environment of a run, it makes the kernel one without

# System calls that fail with EPERM, by machine.
REFUSED = {
    "x86_64": {
        "sockets": (41, 425),  # socket; io_uring_setup, which could open one
        "what outlives a process": (29, 64, 68, 240, 248, 249, 250),  # System V and POSIX IPC, keys
        "modes and times of files": (90, 91, 92, 93, 94, 132, 188, 189, 190, 197, 198, 199, 235, 260, 261, 268, 280,
                                     452, 463),
        "other processes": (101, 141, 142, 144, 251, 298, 310, 311, 312, 314, 321, 323, 438),
        "name spaces and watches": (165, 253, 272, 294, 300, 308),
    },
    "aarch64": {
        "sockets": (198, 425),
        "what outlives a process": (180, 186, 190, 194, 217, 218, 219),
        "modes and times of files": (5, 6, 7, 14, 15, 16, 52, 53, 54, 55, 88, 452, 463),
        "other processes": (30, 117, 118, 119, 140, 241, 270, 271, 272, 274, 280, 282, 438),
        "name spaces and watches": (26, 40, 97, 262, 268),
    },
}  # fmt: skip
# (rt_sigaction, prlimit64): children may not be left uncounted (SIGCHLD), nor other processes limited.
GUARDED = {"x86_64": (13, 302), "aarch64": (134, 261)}
ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
SET_SECCOMP, FILTER, SIGCHLD, EPERM = 22, 2, 17, 1
LOAD, EQUAL, AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06  # of the filter's machine, `struct sock_filter`
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | EPERM

_libc = ctypes.CDLL(None, use_errno=True)


def _call(number: int, *arguments) -> int:
    result = _libc.syscall(number, *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def version() -> int:
    """Of Landlock in this kernel; 0 where there is none."""
    if not sys.platform.startswith("linux"):
        return 0
    return max(0, _libc.syscall(CREATE_RULESET, None, 0, VERSION_ASKED))


def confine(readable: Iterable[str], writable: Iterable[str]) -> list[str]:
    """Leave this process only these files and what lies below these folders; returns what is closed, in words.

    Raises:
        OSError: if the kernel refuses.
    """
    held = version()
    if not held:
        return []
    rights = (1 << (13 if held < 2 else 14 if held < 3 else 15 if held < 5 else 16)) - 1
    tcp = 3 if held >= 4 else 0
    scope = 3 if held >= 6 else 0  # abstract Unix sockets and signals
    attributes = struct.pack("QQQ", rights, tcp, scope)[: 8 if held < 4 else 16 if held < 6 else 24]
    rules = _call(CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    for paths, allowed in ((readable, EXECUTE | READ_FILE | READ_DIR), (writable, rights)):
        for path in paths:
            if not os.path.exists(path):
                continue
            handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
            granted = allowed & rights & (~0 if os.path.isdir(path) else ON_A_FILE)
            _call(ADD_RULE, rules, RULE_PATH_BENEATH, struct.pack("=Qi", granted, handle), 0)
            os.close(handle)
    _libc.prctl(NO_NEW_PRIVS, 1, 0, 0, 0)
    _call(RESTRICT_SELF, rules, 0)
    os.close(rules)
    closed = ["files", *(["TCP"] if tcp else []), *(["signals", "abstract sockets"] if scope else [])]
    return closed + _refuse_calls()


def _refuse_calls() -> list[str]:
    """Let the system calls of `REFUSED` fail; returns them in words, none on a machine whose numbers are not known."""
    machine = platform.machine()
    if machine not in REFUSED:
        return []
    numbers = [number for calls in REFUSED[machine].values() for number in calls]
    action, limits = GUARDED[machine]
    program = [(LOAD, 0, 0, 4), (EQUAL, 1, 0, ARCHITECTURE[machine]), (RETURN, 0, 0, REFUSE), (LOAD, 0, 0, 0)]
    program += [(AT_LEAST, 0, 1, 1 << 30), (RETURN, 0, 0, REFUSE)]  # the numbers of x32
    for number in numbers:
        program += [(EQUAL, 0, 1, number), (RETURN, 0, 0, REFUSE)]
    # (EQUAL, a, b, k): skip a lines if it is k, else b. Of the guarded calls the first argument is looked at.
    program += [(EQUAL, 0, 4, action), (LOAD, 0, 0, 16), (EQUAL, 0, 1, SIGCHLD)]
    program += [(RETURN, 0, 0, REFUSE), (RETURN, 0, 0, ALLOW)]
    program += [(EQUAL, 0, 3, limits), (LOAD, 0, 0, 16), (EQUAL, 1, 0, 0), (RETURN, 0, 0, REFUSE)]
    program += [(RETURN, 0, 0, ALLOW)]
    lines = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in program))
    head = struct.pack("HP", len(program), ctypes.addressof(lines))
    if _libc.prctl(SET_SECCOMP, FILTER, head, 0, 0):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return list(REFUSED[machine])


def code() -> list[str]:
    """Where the interpreter, the libraries, the bench and its own methods are."""
    import bench

    root = Path(bench.__file__).parents[1]
    return [
        *(os.path.realpath(place) for place in (sys.prefix, sys.base_prefix, sysconfig.get_paths()["stdlib"])),
        *("/usr", "/lib", "/lib64", "/bin", "/etc"),
        *("/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system/cpu"),
        *(str(root / folder) for folder in ("bench", "methods")),
    ]


DEVICES = ["/dev/null", "/dev/zero", "/dev/urandom", "/dev/random"]
