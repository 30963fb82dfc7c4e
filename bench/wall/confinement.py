"""What the kernel of Linux refuses a process and all its descendants, for good, without any privilege: Landlock.

Source: Documentation/userspace-api/landlock.rst of the kernel; system calls by number, as the C library has no names.
"""

import ctypes
import os
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
    return ["files", *(["TCP"] if tcp else []), *(["signals", "abstract sockets"] if scope else [])]


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
