"""A process that holds the imports and no secret, and forks the process of each step.

It sees neither the cell nor the data. Whoever holds the other end of its socket asks for one child at a time; when that
end is closed, whatever was forked is ended and so is the nursery.
"""

import ctypes
import gc
import json
import multiprocessing
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import forkserver, resource_tracker
from pathlib import Path

from bench.errors import printable
from bench.wall.witness import Witness

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",  # until a cell sets its own number; a pool of threads must not exist before the fork
    "TQDM_DISABLE": "1",  # anomalib's bars would run through ours
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
SCRATCH = "bench-step-"  # begins the name of a step's folder for its own files
DIE_WITH_PARENT, ADOPT_ORPHANS = 1, 36  # of prctl


def step_server() -> multiprocessing.context.BaseContext:
    """Return the context whose processes are forked from a server with `bench.backends.preload` imported."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bench.wall.silent_end", "bench.backends.preload"])
    resource_tracker.ensure_running()  # starting it lets interrupts through again
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # until the server can end silently
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    return context


class Nursery:
    """The side of it that asks."""

    def __init__(self, end: socket.socket):
        self.end = end

    def fork(self) -> tuple[socket.socket, int]:
        """Start a child, with a scratch folder of its own; returns the other end of its socket, and its process id."""
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self.end, [b"fork"], [theirs.fileno()])
        return ours, int(self._hear())

    def end_child(self) -> dict:
        """End the child and all that it started.

        Returns its exit code (negative: the signal), and of all of them the processor seconds (`cpu_s`), the highest
        resident memory of any (`peak_rss_bytes`) and what they tried and were refused, in words (`refused`).
        """
        self.end.send(b"end ")
        return json.loads(self._hear())

    def _hear(self) -> bytes:
        said = self.end.recv(1 << 17)
        if not said:
            raise RuntimeError("the process that starts the steps has died")
        return said


@contextmanager
def opened() -> Iterator[Nursery]:
    """A nursery forked from the server, for as long as the context lasts."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    process = step_server().Process(target=serve, args=(theirs,))
    process.start()
    theirs.close()
    try:
        yield Nursery(ours)
    finally:
        ours.close()
        process.join()


def serve(end: socket.socket) -> None:
    """The body of a nursery."""
    libc = ctypes.CDLL(None)
    libc.prctl(ADOPT_ORPHANS, 1, 0, 0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who asks decides
    signal.signal(signal.SIGTERM, lambda *_: end.shutdown(socket.SHUT_RDWR))  # as if it were closed
    for folder in Path(tempfile.gettempdir()).glob(f"{SCRATCH}*-*"):  # of this user's nurseries that were killed
        owner = folder.name.removeprefix(SCRATCH).partition("-")[0]
        with suppress(OSError):
            if owner.isdigit() and not Path("/proc", owner).exists() and folder.lstat().st_uid == os.getuid():
                _remove(str(folder))
    gc.freeze()  # so that children do not write into what they share
    child, scratch, witness, heard = 0, "", None, -1
    try:
        while True:
            _listen(end, witness, heard)
            asked, descriptors, *_ = socket.recv_fds(end, 16, 1)
            if not asked:
                return
            if asked == b"fork":
                scratch = tempfile.mkdtemp(prefix=f"{SCRATCH}{os.getpid()}-")
                ours, theirs = socket.socketpair()
                witness = Witness(ours)
                heard, said = os.pipe()
                with theirs:
                    child = _fork(end, descriptors[0], scratch, theirs, said, libc)
                os.close(said)
                end.send(str(child).encode())
            else:
                used = _end(child) | {"refused": list(witness.refused)}
                while _pass_on(heard):
                    pass
                os.close(heard)
                witness.close()
                witness, heard = None, -1
                _remove(scratch)
                end.send(json.dumps(used).encode())
    except OSError:
        return
    finally:
        _end(0)
        _remove(scratch)


def _listen(end: socket.socket, witness: Witness | None, heard: int) -> None:
    """Answer the kernel, and pass on what a step prints, until something is asked of this process."""
    while True:
        poll = select.poll()
        poll.register(end, select.POLLIN)
        if witness:
            poll.register(witness, select.POLLIN)
        if heard >= 0:
            poll.register(heard, select.POLLIN)
        ready = dict(poll.poll())
        if end.fileno() in ready:
            return
        if heard in ready and not _pass_on(heard):
            heard = -1
        said = witness and ready.get(witness.fileno())
        if said and not (said & select.POLLIN and witness.hear()):
            witness = None  # nobody is left to be heard of


def _pass_on(heard: int) -> bool:
    """Print what a step has printed, marked as such and without what would move a terminal's cursor; False at its end.

    It has no descriptor of this process: a shared one's offset and flags would outlast it.
    """
    text = os.read(heard, 1 << 16).decode(errors="replace")
    os.write(2, "".join(f"method: {line}\n" for line in printable(text).splitlines() if line).encode())
    return bool(text)


def _fork(end: socket.socket, descriptor: int, scratch: str, told: socket.socket, said: int, libc) -> int:
    parent = os.getpid()
    child = os.fork()
    if child:
        os.close(descriptor)
        return child
    code = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        libc.prctl(DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
        if os.getppid() == parent:
            end.close()
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            for output in (1, 2):
                os.dup2(said, output)
            from bench.wall import child as body

            body.main(socket.socket(fileno=descriptor), scratch, told)
            code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def _remove(folder: str) -> None:
    """Remove a scratch folder, however deep a method has nested it: Python's own way ends at a depth of hundreds."""
    with suppress(RecursionError):
        shutil.rmtree(folder, ignore_errors=True)
    if folder and os.path.lexists(folder):
        subprocess.run(["rm", "-rf", "--", folder], stderr=subprocess.DEVNULL, check=False)


def _end(child: int) -> dict:
    """Kill whatever there is below this process, and count what it was."""
    code, spent, peak = 0, 0.0, 0
    while children := _children():
        for pid in children:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in children:
            with suppress(ChildProcessError):
                _, status, used = os.wait4(pid, 0)
                spent += used.ru_utime + used.ru_stime
                peak = max(peak, used.ru_maxrss * 1024)
                code = os.waitstatus_to_exitcode(status) if pid == child else code
    return {"code": code, "cpu_s": spent, "peak_rss_bytes": peak}


def _children() -> list[int]:
    """Those that are waited for too: who has lost its parent comes here, since this process adopts them."""
    own, found = os.getpid(), []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError, IndexError), open(f"/proc/{name}/stat") as file:
                if int(file.read().rpartition(")")[2].split()[1]) == own:
                    found.append(int(name))
    return found
