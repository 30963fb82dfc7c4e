"""Damaged and foreign files by the thousand: `python tests/benchmarks/fuzz.py [EXAMPLES PER KIND] [SEED]`.

For each kind of file it prints how many examples were taken as written, refused in a sentence, or made anew, and how
much processor the slowest took; a traceback, a changed number or a hang ends it with the smallest example.
"""

import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[1]))

from damage import KINDS
from hypothesis import HealthCheck, Phase, given, seed, settings

from bench import registry
from bench.registry.entry import Entry
from bench.schema import protocol

HANG = 20  # seconds of processor
OWN = ((registry, "found_entries"), (Entry, "load"), (protocol, "load_protocol"))  # they read what no example changes
QUIET = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "database": None,
    "phases": (Phase.generate, Phase.shrink),
}


def main(examples: int = 4000, start: int = 0, *kinds: str) -> None:
    for kind in kinds or KINDS:
        with tempfile.TemporaryDirectory() as folder, ExitStack() as read_once:
            for owner, name in OWN:
                read_once.enter_context(mock.patch.object(owner, name, cache(getattr(owner, name))))
            begun = time.process_time()
            ends, slowest = fuzz(KINDS[kind](Path(folder)), examples, start)
            spent = time.process_time() - begun
        told = ", ".join(f"{count} {end}" for end, count in sorted(ends.items()))
        print(f"{kind:11} {sum(ends.values()):6} examples: {told}; slowest {slowest:.2f} s, {spent:.0f} s", flush=True)


def fuzz(under_test, examples: int, start: int) -> tuple[Counter, float]:
    """(how the examples ended, processor seconds of the slowest)."""
    ends, seconds = Counter(), [0.0]

    @seed(start)
    @settings(max_examples=examples, **QUIET)
    @given(under_test.examples)
    def holds(example):
        signal.setitimer(signal.ITIMER_PROF, HANG)
        begun = time.process_time()
        ends[under_test.holds(example)] += 1
        seconds.append(time.process_time() - begun)

    signal.signal(signal.SIGPROF, _hangs)
    holds()
    signal.setitimer(signal.ITIMER_PROF, 0)
    return ends, max(seconds)


def _hangs(*_):
    raise AssertionError(f"more than {HANG} s")


if __name__ == "__main__":
    given_ = sys.argv[1:]
    main(*map(int, given_[:2]), *given_[2:])
