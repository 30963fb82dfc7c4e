"""Kills, full disks and runs side by side: `python tests/benchmarks/kills.py [KILLS] [SEED]`.

A small cell is run in processes of its own, as `bench run` does. It is killed with SIGKILL at random moments of its
life, the decoding of its images included, and started again until it is finished; its writes fail one after another
(ENOSPC), or beyond a size (RLIMIT_FSIZE); two runs share a cache, two commands a results folder. Whatever happens, what
lies there can be read at any time, no finished step is lost, and the end is the same, byte for byte.
"""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[1]))

from mini import cell
from trees import MANIFEST

from bench import results
from bench.backends import pool
from bench.errors import BadInput
from bench.results import stored
from bench.runner import run_cell
from bench.schema.stream import Stream

OPTIONS = {"train": 12, "good": 6, "anomalous": 6}
STREAM = Stream("synthetic/mini", 1, "synthetic", (("gear",), ("wood",), ("board",)), 64, OPTIONS, "kills.py")


def main(kills: int = 100, seed: int = 0) -> None:
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        run_cell(small(folder / "cache"), folder / "whole")
        whole = left(folder / "whole")
        tell(f"{kills} kills", killed(folder / "kills", whole, kills, seed))
        tell("full disk, each write in turn", full(folder / "full", whole))
        tell("files of at most 1 to 64 kB", limited(folder / "limited", whole))
        tell("two runs, one cache", side_by_side(folder / "beside", whole))
        tell("two commands, one results folder", turned_away(folder / "two"))


def tell(what: str, found: str) -> None:
    print(f"{what}: {found}", flush=True)


def small(cache: Path):
    return cell(STREAM, cache, "replay", "autoencoder", overrides={"autoencoder": {"epochs": 4}})


def left(root: Path) -> tuple[str, bytes]:
    """(numbers of the finished cell in `root`, bytes of its scores)."""
    ((path, record),) = results.scan(root)
    assert not isinstance(record, BadInput), record
    assert record["status"] == "ok", record["reason"]
    parts = {part: results.plain(record[part]) for part in ("matrices", "pooled", "threshold")}
    return json.dumps(parts), stored.scores_path(path).read_bytes()


def done(root: Path) -> int:
    """Steps that the cell file tells; what lies there can be read at any time."""
    ((_, record),) = list(results.scan(root)) or [(None, None)]
    assert not isinstance(record, BadInput), record
    return record.steps_done if record else 0


def start(root: Path, cache: Path):
    return pool.start(pool.cell_server(), small(cache), root, 1, (), {})


def killed(folder: Path, whole: tuple, kills: int, seed: int) -> str:
    moment, lives, killed_at = random.Random(seed), 0, []
    kill, steps, longest = 0, 0, lifetime(folder)
    while kill < kills:
        root, cache = folder / str(lives), folder / f"cache-{lives}"
        events, process, nursery = start(root, cache)
        process.join(moment.uniform(0, longest))
        if not (ended := not process.is_alive()):
            os.kill(process.pid, signal.SIGKILL)
            kill += 1
        process.join()
        nursery.join()
        events.close()
        now = done(root)
        assert now >= steps, f"{steps - now} finished steps are lost"
        killed_at.append(now)
        steps = now
        if ended:
            assert left(root) == whole
            lives, steps = lives + 1, 0
    run_cell(small(folder / f"cache-{lives}"), folder / str(lives))
    assert left(folder / str(lives)) == whole
    counts = ", ".join(f"{killed_at.count(n)} after {n}" for n in sorted(set(killed_at)))
    return f"{lives + 1} lives finished, all the same; steps that were told when they came: {counts}"


def lifetime(folder: Path) -> float:
    """Seconds that a life takes here and now, so that the kills come at all moments of it on a machine of any speed."""
    seconds = []
    for name in ("imports", "timed"):  # the first pays for what is imported once
        begun = time.perf_counter()
        events, *processes = start(folder / name, folder / f"cache-{name}")
        for process in processes:
            process.join()
        events.close()
        seconds.append(time.perf_counter() - begun)
    return min(seconds)


def full(folder: Path, whole: tuple) -> str:
    """Every write of the run fails once, the run told so is started again, and goes on."""
    real, failed = os.replace, 0
    while True:
        calls, at, root = [], failed + 1, folder / str(failed)

        def replace(source, target, calls=calls, at=at):
            calls.append(target)
            if len(calls) == at:
                raise OSError(28, "No space left on device")
            real(source, target)

        with mock.patch.object(os, "replace", replace):
            try:
                run_cell(small(folder / "cache"), root)
            except BadInput as told:
                assert "free some space" in str(told), told
                failed += 1
            else:
                assert len(calls) < at
                return f"{failed} writes failed, each in a sentence, each run went on to the same end"
        run_cell(small(folder / "cache"), root)
        assert left(root) == whole


def limited(folder: Path, whole: tuple) -> str:
    """Files larger than a limit cannot be written: EFBIG of the kernel, in a process of its own."""
    told = 0
    for kilobytes in (1, 4, 16, 64):
        root = folder / str(kilobytes)
        code = os.fork()
        if not code:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000 * kilobytes, resource.RLIM_INFINITY))
            try:
                run_cell(small(folder.parent / "cache"), root)
            except BadInput:
                os._exit(2)
            except BaseException:
                os._exit(1)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(code, 0)[1])
        assert code in (0, 2), f"exit code {code} at {kilobytes} kB"
        told += code == 2
        run_cell(small(folder.parent / "cache"), root)
        assert left(root) == whole
    return f"{told} of 4 told so in a sentence, the others fitted; all went on to the same end"


def side_by_side(folder: Path, whole: tuple) -> str:
    both = [start(folder / name, folder / "cache") for name in ("one", "other")]
    for events, *processes in both:
        for process in processes:
            process.join()
        events.close()
    assert left(folder / "one") == left(folder / "other") == whole
    return "the same"


def turned_away(folder: Path) -> str:
    folder.mkdir(parents=True)
    (folder / "mini.yaml").write_text(MANIFEST)
    command = [sys.executable, "-m", "bench", "run", "--methods", "finetune", "--detectors", "autoencoder"]
    command += ["--scenario", "mini.yaml", "--set", "autoencoder.epochs=1"]
    how = {"cwd": folder, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    both = [subprocess.Popen(command, **how) for _ in range(2)]
    texts = [process.communicate()[0] for process in both]
    codes = sorted(process.returncode for process in both)
    away = [text for text in texts if "in use by another run" in text]
    assert codes == [0, 2] and len(away) == 1, texts
    return away[0].strip().splitlines()[-1].replace(str(folder), "...")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
