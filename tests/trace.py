"""A method for tests that leaves a file for every step begun and done, and waits or fails where it is told to."""

METHOD = '''"""Trace: leaves a file for every step begun and done."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from bench.api import Plugin, Setup, Strategy

FOLDER = Path({folder!r})
FAILS = 7  # the seed that does


@dataclass(frozen=True)
class Config:
    @classmethod
    def tiny(cls) -> "Config":
        return cls()


def build(config: Config, setup: Setup) -> Strategy:
    return setup.strategy([Trace(setup.seed)])


class Trace(Plugin):
    def __init__(self, seed):
        super().__init__()
        self.seed = seed

    def leave(self, what, step):
        (FOLDER / f"{{what}}-{{self.seed}}-{{step}}-{{os.getpid()}}").touch()

    def held(self):
        here = {{f"machine {{os.environ.get('RAY_RAYLET_PID')}}", f"seed {{self.seed}}"}}
        return here & set((FOLDER / "hold").read_text().splitlines())

    def before_training_exp(self, strategy, **_):
        step = strategy.experience.current_experience
        self.leave("begun", step)
        if self.seed == FAILS:
            raise ValueError("of its own accord")
        while step == 1 and self.held():
            self.leave("held", step)
            time.sleep(0.05)

    def after_training_exp(self, strategy, **_):
        self.leave("done", strategy.experience.current_experience)

    def state_dict(self):
        return {{}}

    def load_state_dict(self, state):
        pass
'''


class Traces:
    """The files that such a method has left."""

    def __init__(self, folder):
        self.folder = folder / "traces"
        self.folder.mkdir()
        self.method = folder / "trace.py"
        self.method.write_text(METHOD.format(folder=str(self.folder)))
        self.hold()

    def hold(self, *what: str) -> None:
        """Stop cells at their second step while it is among `what`: "seed K", "machine PID" of its raylet."""
        (self.folder / "hold").write_text("\n".join(what))

    def left(self, what: str) -> list[tuple[int, int]]:
        """(seed, step) of each time that it was begun, done or held, in order."""
        return sorted(tuple(map(int, name.split("-")[1:3])) for name in self._names(what))

    def processes(self) -> set[int]:
        """The processes that began a step."""
        return {int(name.split("-")[3]) for name in self._names("begun")}

    def _names(self, what: str) -> list[str]:
        return [path.name for path in self.folder.glob(f"{what}-*")]
