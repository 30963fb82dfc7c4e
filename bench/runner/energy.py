"""Energy of the processor by RAPL: the counters of Linux's powercap tree.

Source: Documentation/power/powercap/powercap.rst of the kernel.
"""

import re
import threading
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
PACKAGE = re.compile(r"intel-rapl:\d+")  # its parts, as intel-rapl:0:0, are in it already
PERIOD_S = 30.0  # a counter of 2^18 J needs 9 minutes at 500 W to come round, so no turn is missed


class Rapl:
    """Joules of all processor packages from now on; nothing where their counters are absent or closed to us."""

    def __init__(self, root: Path = POWERCAP, period_s: float = PERIOD_S):
        """Begin to count; a daemon thread reads on every `period_s` seconds, where there is something to read."""
        self._lock, self._spent_uj, self._whole = threading.Lock(), 0, True
        try:
            found = [path for path in sorted(root.iterdir()) if PACKAGE.fullmatch(path.name)]
            self._packages = [path for path in found if (path / "name").read_text().startswith("package")]
            self._ranges = [_number(path / "max_energy_range_uj") for path in self._packages]
            self._last = [_number(path / "energy_uj") for path in self._packages]
        except (OSError, ValueError):
            self._packages, self._ranges, self._last = [], [], []
        if self._packages:
            threading.Thread(target=self._read_on, args=(period_s,), daemon=True).start()

    def joules(self) -> float | None:
        """Since the beginning; None where it cannot be read, or could not be in between."""
        self.sample()
        return self._spent_uj / 1e6 if self._packages and self._whole else None

    def sample(self) -> None:
        """Add what was spent since the last sample; a counter that fell has come round once."""
        with self._lock:
            try:
                now = [_number(path / "energy_uj") for path in self._packages]
            except (OSError, ValueError):
                self._whole = False
                return
            for before, after, most in zip(self._last, now, self._ranges, strict=True):
                self._spent_uj += after - before if after >= before else after + most - before
            self._last = now

    def _read_on(self, period_s: float) -> None:
        wait = threading.Event()
        while self._whole and not wait.wait(period_s):
            self.sample()


def _number(path: Path) -> int:
    return int(path.read_text())
