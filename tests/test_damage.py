"""Damaged and foreign files are refused in a sentence or made anew; `tests/benchmarks/fuzz.py` tries many thousand."""

import pytest
from damage import KINDS, Checkpoints
from hypothesis import HealthCheck, given, settings

pytestmark = pytest.mark.slow

QUIET = {"suppress_health_check": list(HealthCheck), "database": None, "derandomize": True}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_fifty_files(kind, tmp_path):
    under_test = KINDS[kind](tmp_path)

    @settings(max_examples=50, deadline=None, **QUIET)
    @given(under_test.examples)
    def holds(example):
        under_test.holds(example)

    holds()


@pytest.mark.parametrize("file", ["checkpoint", "step"])
def test_no_byte_changes_unseen_of_what_a_killed_run_goes_on_from(file, tmp_path):
    under_test = Checkpoints(tmp_path)
    size = len(under_test.content[file])  # the directory of an archive has no checksum: each byte is tried
    ends = [under_test.holds((file, [("flip", at / size, b"\1")])) for at in range(size)]
    assert set(ends) == {"refused"} and size > 100
