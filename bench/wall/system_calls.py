"""System calls of Linux by name: their numbers on x86_64 and aarch64, 0 where a machine has none.

Source: arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h of the kernel.
"""

from typing import NamedTuple

Numbers = tuple[int, int]

LAST = 467  # known here, of Linux 6.15; a kernel's newer ones are not there for a step, as on an older kernel

# What is refused, by what it would reach.
REFUSED: dict[str, dict[str, Numbers]] = {
    "sockets": {"socket": (41, 198), "io_uring_setup": (425, 425)},  # the latter could open one
    "what outlives a process": {
        "shmget": (29, 194), "semget": (64, 190), "msgget": (68, 186), "mq_open": (240, 180),
        "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    },
    "modes and times of files": {
        "chmod": (90, 0), "fchmod": (91, 52), "chown": (92, 0), "fchown": (93, 55), "lchown": (94, 0),
        "utime": (132, 0), "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7),
        "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16), "utimes": (235, 0),
        "fchownat": (260, 54), "futimesat": (261, 0), "fchmodat": (268, 53), "utimensat": (280, 88),
        "fchmodat2": (452, 452), "setxattrat": (463, 463), "removexattrat": (466, 466),
    },
    "other processes": {
        "ptrace": (101, 117), "setpriority": (141, 140), "sched_setparam": (142, 118),
        "sched_setscheduler": (144, 119), "ioprio_set": (251, 30), "perf_event_open": (298, 241),
        "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
        "sched_setattr": (314, 274), "bpf": (321, 280), "userfaultfd": (323, 282), "pidfd_getfd": (438, 438),
    },
    "the machine": {
        "sethostname": (170, 161), "setdomainname": (171, 162), "settimeofday": (164, 170),
        "clock_settime": (227, 112), "adjtimex": (159, 171), "clock_adjtime": (305, 266), "syslog": (103, 116),
        "chroot": (161, 51), "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265),
    },
    "what is cached of files": {"cachestat": (451, 451), "mincore": (27, 232)},
    "name spaces and watches": {
        "mount": (165, 40), "inotify_init": (253, 0), "unshare": (272, 97), "inotify_init1": (294, 26),
        "fanotify_init": (300, 262), "setns": (308, 268), "open_tree": (428, 428), "fspick": (433, 433),
        "open_tree_attr": (467, 467),
    },
}  # fmt: skip


class Guard(NamedTuple):
    """A call that is refused by one of its arguments: if that is among `values`, or if it is `others` than those."""

    numbers: Numbers
    argument: int
    values: tuple[int, ...]
    others: bool = False


GUARDED: dict[str, dict[str, Guard]] = {
    "children left uncounted": {"rt_sigaction": Guard((13, 134), 0, (17,))},  # SIGCHLD, of which a handler decides it
    "limits of other processes": {  # 0: of one's own
        "prlimit64": Guard((302, 261), 0, (0,), others=True),
        "sched_setaffinity": Guard((203, 122), 0, (0,), others=True),
    },
    "what is dropped from the cache": {"fadvise64": Guard((221, 223), 3, (4,))},  # POSIX_FADV_DONTNEED
    "what a file keeps": {
        "ioctl": Guard((16, 29), 1, (0x40086602, 0x40087602, 0x401C5820)),  # FS_IOC_SETFLAGS, SETVERSION, FSSETXATTR
        "fcntl": Guard((72, 25), 1, (1036, 1038)),  # F_SET_RW_HINT, F_SET_FILE_RW_HINT
    },
}

# What Landlock refuses outside the folders that are open: numbers, and which arguments are (folder, path) each, the
# folder None where the call has none.
FILES: dict[str, tuple[Numbers, tuple[tuple[int | None, int], ...]]] = {
    "open": ((2, 0), ((None, 0),)),
    "creat": ((85, 0), ((None, 0),)),
    "openat": ((257, 56), ((0, 1),)),
    "openat2": ((437, 437), ((0, 1),)),
    "truncate": ((76, 45), ((None, 0),)),
    "unlink": ((87, 0), ((None, 0),)),
    "unlinkat": ((263, 35), ((0, 1),)),
    "rmdir": ((84, 0), ((None, 0),)),
    "rename": ((82, 0), ((None, 0), (None, 1))),
    "renameat": ((264, 38), ((0, 1), (2, 3))),
    "renameat2": ((316, 276), ((0, 1), (2, 3))),
    "link": ((86, 0), ((None, 0), (None, 1))),
    "linkat": ((265, 37), ((0, 1), (2, 3))),
    "symlink": ((88, 0), ((None, 1),)),
    "symlinkat": ((266, 36), ((1, 2),)),
    "mkdir": ((83, 0), ((None, 0),)),
    "mkdirat": ((258, 34), ((0, 1),)),
    "mknod": ((133, 0), ((None, 0),)),
    "mknodat": ((259, 33), ((0, 1),)),
    "execve": ((59, 221), ((None, 0),)),
    "kill": ((62, 129), ()),
}


class Size(NamedTuple):
    """A call that tells size and times of a file by its path, which Landlock refuses to nobody."""

    numbers: Numbers
    lengths: tuple[int, int]  # bytes of the answer
    folder: int | None  # of its arguments, as are the following
    path: int
    flags: int | None
    answer: int


SIZES: dict[str, Size] = {
    "stat": Size((4, 0), (144, 0), None, 0, None, 1),
    "lstat": Size((6, 0), (144, 0), None, 0, None, 1),
    "newfstatat": Size((262, 79), (144, 128), 0, 1, 3, 2),
    "statx": Size((332, 291), (256, 256), 0, 1, 2, 4),
}
