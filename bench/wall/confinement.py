"""What the kernel of Linux refuses a process and all its descendants, for good, without any privilege.

Landlock closes files, TCP and signals; a seccomp filter closes what Landlock does not know: other sockets, what
outlives a process (System V memory and queues, keys, times, modes and attributes of files), and other processes'
memory and priority. The filter also has the kernel tell a witness of what is tried (`bench.wall.witness`). Sources:
landlock.rst and seccomp_filter.rst in Documentation/userspace-api of the kernel; system calls by number, as the C
library does not name them all.
"""

import ctypes
import errno
import os
import platform
import struct
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

from bench.wall.system_calls import FILES, GUARDED, LAST, REFUSED, SIZES

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
VERSION_ASKED, RULE_PATH_BENEATH, NO_NEW_PRIVS = 1, 1, 38
EXECUTE, READ_FILE, READ_DIR = 1 << 0, 1 << 2, 1 << 3
ON_A_FILE = EXECUTE | 1 << 1 | READ_FILE | 1 << 14 | 1 << 15  # of the rights, those that make sense on a single file
OFF = "BENCH_NO_LANDLOCK"  # set in the environment of a run, it makes the kernel one without

MACHINES = {"x86_64": (0, 317, 0xC000003E), "aarch64": (1, 277, 0xC00000B7)}  # column, seccomp(2), AUDIT_ARCH_...
SET_FILTER, NEW_LISTENER = 1, 1 << 3
CAPABILITY_VERSION, CAP_DAC_OVERRIDE = 0x20080522, 1 << 1
LOAD, EQUAL, AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06  # of the filter's machine, `struct sock_filter`
ALLOW, REFUSE, ASK, UNKNOWN = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x7FC00000, 0x00050000 | errno.ENOSYS

_libc = ctypes.CDLL(None, use_errno=True)


def system_call(number: int, *arguments) -> int:
    """A system call by its number. Raises OSError where it fails."""
    result = _libc.syscall(number, *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def version() -> int:
    """Of Landlock in this kernel; 0 where there is none."""
    if not sys.platform.startswith("linux"):
        return 0
    return max(0, _libc.syscall(CREATE_RULESET, None, 0, VERSION_ASKED))


def confine(readable: Iterable[str], writable: Iterable[str]) -> tuple[list[str], int | None]:
    """Leave this process only these files and what lies below these folders.

    Returns what is closed, in words, and the descriptor on which the kernel tells what is tried (None: it does not).
    Whoever holds it answers for it: nothing that is not trusted may run before it is closed here.

    Raises:
        OSError: if the kernel refuses.
    """
    held = version()
    if not held:
        return [], None
    rights = (1 << (13 if held < 2 else 14 if held < 3 else 15 if held < 5 else 16)) - 1
    tcp = 3 if held >= 4 else 0
    scope = 3 if held >= 6 else 0  # abstract Unix sockets and signals
    attributes = struct.pack("QQQ", rights, tcp, scope)[: 8 if held < 4 else 16 if held < 6 else 24]
    rules = system_call(CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    for paths, allowed in ((readable, EXECUTE | READ_FILE | READ_DIR), (writable, rights)):
        for path in paths:
            if not os.path.exists(path):
                continue
            handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
            granted = allowed & rights & (~0 if os.path.isdir(path) else ON_A_FILE)
            system_call(ADD_RULE, rules, RULE_PATH_BENEATH, struct.pack("=Qi", granted, handle), 0)
            os.close(handle)
    _libc.prctl(NO_NEW_PRIVS, 1, 0, 0, 0)
    # Root too keeps but the right to read and write files that are not its own, where Landlock lets it.
    head, capabilities = struct.pack("Ii", CAPABILITY_VERSION, 0), ctypes.create_string_buffer(24)
    _libc.capget(head, capabilities)
    words = enumerate(struct.unpack("6I", capabilities.raw))
    kept = [word & CAP_DAC_OVERRIDE if place < 3 else 0 for place, word in words]
    _libc.capset(head, struct.pack("6I", *kept))
    system_call(RESTRICT_SELF, rules, 0)
    os.close(rules)
    closed = ["files", *(["TCP"] if tcp else []), *(["signals", "abstract sockets"] if scope else [])]
    if platform.machine() not in MACHINES:  # whose numbers are not known
        return closed, None
    closed += [*REFUSED, *GUARDED]
    try:
        return [*closed, "sizes of files"], _filter(ASK)
    except OSError:  # a kernel before 5.5, or in a container that has such a filter already
        _filter(REFUSE)
        return closed, None


def _filter(refuse: int) -> int:
    """Let the system calls of `REFUSED` fail, or be answered for by a witness, as are those of `FILES` and `SIZES`.

    Calls beyond `LAST` are unknown: libraries take what older kernels have.
    """
    column, seccomp, architecture = MACHINES[platform.machine()]
    refused = [numbers[column] for calls in REFUSED.values() for numbers in calls.values()]
    heard = [numbers[column] for numbers, *_ in (*FILES.values(), *SIZES.values())] if refuse == ASK else []
    # (EQUAL, a, b, k): skip a lines if it is k, else b.
    program = [(LOAD, 0, 0, 4), (EQUAL, 1, 0, architecture), (RETURN, 0, 0, REFUSE), (LOAD, 0, 0, 0)]
    program += [(AT_LEAST, 0, 1, LAST + 1), (RETURN, 0, 0, UNKNOWN)]  # those of x32 too, which begin at 1 << 30
    for number in filter(None, [*refused, *heard]):
        program += [(EQUAL, 0, 1, number), (RETURN, 0, 0, refuse)]
    for guard in (guard for calls in GUARDED.values() for guard in calls.values()):
        found, otherwise = (ALLOW, refuse) if guard.others else (refuse, ALLOW)
        tests = [line for value in guard.values for line in ((EQUAL, 0, 1, value), (RETURN, 0, 0, found))]
        tests = [(LOAD, 0, 0, 16 + 8 * guard.argument), *tests, (RETURN, 0, 0, otherwise)]
        program += [(EQUAL, 0, len(tests), guard.numbers[column]), *tests]
    program += [(RETURN, 0, 0, ALLOW)]
    lines = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in program))
    head = struct.pack("HP", len(program), ctypes.addressof(lines))
    return system_call(seccomp, SET_FILTER, NEW_LISTENER if refuse == ASK else 0, head)


def code() -> list[str]:
    """Where the interpreter, the libraries, the bench and its own methods are."""
    import bench

    root = Path(bench.__file__).parents[1]
    return [
        *(os.path.realpath(place) for place in (sys.prefix, sys.base_prefix, sysconfig.get_paths()["stdlib"])),
        *("/usr", "/lib", "/lib64", "/bin", "/etc"),
        *("/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system/cpu"),
        *(str(root / folder) for folder in ("bench", "methods")),
        *map(str, root.glob("*.egg-info")),  # an installed clone's: libraries ask for all entry points
    ]


DEVICES = ["/dev/null", "/dev/zero", "/dev/urandom", "/dev/random"]
