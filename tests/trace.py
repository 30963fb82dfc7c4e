"""A method for tests that tells when its steps began, and waits or fails where it is told to.

It runs behind the wall: it reads the file that its option names, leaves a mark in the scratch folder of its process for
as long as it waits, and reports the rest.
"""

import tempfile
from glob import glob
from pathlib import Path

METHOD = '''"""Trace: reports when each step began."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from bench.api import Plugin, Setup, Strategy

FAILS = 7  # the seed that does


@dataclass(frozen=True)
class Config:
    hold: str = ""  # file of the cells that are to wait at their second step

    @classmethod
    def tiny(cls) -> "Config":
        return cls()


def build(config: Config, setup: Setup) -> Strategy:
    return setup.strategy([Trace(Path(config.hold), setup.seed)])


class Trace(Plugin):
    def __init__(self, hold, seed):
        super().__init__()
        self.hold, self.seed, self.began = hold, seed, 0.0

    def held(self):
        here = {f"machine {os.environ.get('RAY_RAYLET_PID')}", f"seed {self.seed}"}
        return here & set(self.hold.read_text().splitlines())

    def before_training_exp(self, strategy, **_):
        self.began = time.time()
        if self.seed == FAILS:
            raise ValueError("of its own accord")
        while strategy.experience.current_experience == 1 and self.held():
            Path(os.environ["TMPDIR"], f"held-{self.seed}-{os.getpid()}-{self.hold.parent.name}").touch()
            time.sleep(0.05)

    def report(self):
        return {"began": self.began}
'''


class Traces:
    """Tells such a method where to wait, and sees where it does."""

    def __init__(self, folder: Path):
        self.method, self.file = folder / "trace.py", folder / "hold"
        self.method.write_text(METHOD)
        self.hold()

    def hold(self, *what: str) -> None:
        """Stop cells at their second step while it is among `what`: "seed K", "machine PID" of its raylet."""
        self.file.write_text("\n".join(what))

    def held(self) -> dict[int, int]:
        """Seed of each cell that waits -> its process."""
        found = glob(f"{tempfile.gettempdir()}/bench-step-*/held-*-{self.file.parent.name}")
        return {int(seed): int(process) for _, seed, process, *_ in (Path(path).name.split("-") for path in found)}
