"""How often to write what a kill may lose: as often as writing stays a small share of the time."""

import time
from collections.abc import Callable

QUICK_S = 0.1  # a write that takes less is never put off
SHARE = 0.05  # of the time that slower ones may take


class Pace:
    """Puts a slow write off until the time since the last one makes it cheap."""

    def __init__(self, now: Callable[[], float] = time.perf_counter):
        self.now, self.took, self.last = now, 0.0, now()

    def due(self) -> bool:
        """Whether it is time to write, at what the last write took."""
        return self.took <= QUICK_S or self.took <= SHARE * (self.now() - self.last)

    def write(self, function: Callable[[], object]) -> None:
        """Call `function` if it is due."""
        if self.due():
            start = self.now()
            function()
            self.last = self.now()
            self.took = self.last - start
