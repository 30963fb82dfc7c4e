"""RAPL counters of a made-up machine: packages are added up, a counter that comes round loses nothing."""

import time

import pytest

from bench.runner.cost import Rapl

MOST = 262_143_328_850


def put(root, zone, name, energy, most=MOST):
    folder = root / zone
    folder.mkdir(parents=True, exist_ok=True)
    for file, value in (("name", name), ("energy_uj", energy), ("max_energy_range_uj", most)):
        (folder / "new").write_text(f"{value}\n")
        (folder / "new").replace(folder / file)  # a reader never sees half of it


@pytest.fixture
def root(tmp_path):
    """Two packages, a part of the first, and the platform that holds them both."""
    put(tmp_path, "intel-rapl:0", "package-0", 1_000_000)
    put(tmp_path, "intel-rapl:1", "package-1", MOST - 2_000_000)
    put(tmp_path, "intel-rapl:0:0", "core", 5)
    put(tmp_path, "intel-rapl:2", "psys", 5)
    (tmp_path / "intel-rapl").mkdir()
    return tmp_path


def test_packages_are_added_up_and_nothing_twice(root):
    meter = Rapl(root)
    assert meter.joules() == 0
    put(root, "intel-rapl:0", "package-0", 4_500_000)
    put(root, "intel-rapl:0:0", "core", 2_000_000)
    put(root, "intel-rapl:2", "psys", 9_000_000)
    assert meter.joules() == pytest.approx(3.5)


def test_a_counter_that_comes_round_goes_on(root):
    meter = Rapl(root)
    put(root, "intel-rapl:1", "package-1", 3_000_000)
    assert meter.joules() == pytest.approx(5.0)
    put(root, "intel-rapl:1", "package-1", 2_000_000)  # nearly a whole turn later
    assert meter.joules() == pytest.approx(5.0 + (MOST - 1_000_000) / 1e6)


def test_it_reads_on_by_itself_so_that_no_turn_is_missed(root):
    meter = Rapl(root, period_s=0.001)
    for energy in (0, MOST - 1_000_000, 0):  # two turns and nobody asks
        before = meter._last[0]
        put(root, "intel-rapl:0", "package-0", energy)
        while meter._last[0] == before:
            time.sleep(0.001)
    assert meter.joules() == pytest.approx((MOST - 1_000_000 + MOST) / 1e6)


@pytest.mark.parametrize("harm", ["absent", "empty", "closed", "closed later"])
def test_what_cannot_be_read_is_missing_not_zero(root, tmp_path, harm):
    if harm == "closed":
        (root / "intel-rapl:1" / "energy_uj").unlink()
    elif harm == "empty":
        root = tmp_path / "empty"
        root.mkdir()
    meter = Rapl(tmp_path / "nowhere" if harm == "absent" else root)
    if harm == "closed later":
        (root / "intel-rapl:0" / "energy_uj").unlink()
    assert meter.joules() is None
