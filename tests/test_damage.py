"""Damaged and foreign files are refused in a sentence or made anew; `tests/benchmarks/fuzz.py` tries many thousand."""

import pytest
from damage import KINDS
from hypothesis import HealthCheck, given, settings

QUIET = {"suppress_health_check": list(HealthCheck), "database": None, "derandomize": True}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_fifty_files(kind, tmp_path):
    under_test = KINDS[kind](tmp_path)

    @settings(max_examples=50, deadline=None, **QUIET)
    @given(under_test.examples)
    def holds(example):
        under_test.holds(example)

    holds()
