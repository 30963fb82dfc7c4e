"""What may differ when test images are shown again: last bits, and one image whose score jumps by little."""

import numpy as np
import pytest

from bench.evaluation import CanaryError, _compare

EVERY = np.linspace(0, 1, 50, dtype=np.float32)


@pytest.mark.parametrize("moved", [{}, {3: 1e-4, 7: -1e-4}, {3: 0.04}, {3: 0.04, 7: 1e-4}])
def test_last_bits_and_one_near_tie_are_let_pass(moved):
    again = EVERY.copy()
    again[list(moved)] += list(moved.values())
    _compare("scores", again, EVERY, EVERY)


@pytest.mark.parametrize("moved", [{3: 0.06}, {3: 0.04, 7: 0.01}, {3: np.nan}, dict.fromkeys(range(50), 0.002)])
def test_more_than_that_is_no_judgement_of_an_image_on_its_own(moved):
    again = EVERY.copy()
    again[list(moved)] += np.array(list(moved.values()), np.float32)
    with pytest.raises(CanaryError, match="scores moved by"):
        _compare("scores", again, EVERY, EVERY)


def test_maps_are_compared_image_by_image():
    maps = np.linspace(0, 1, 64, dtype=np.float32).reshape(4, 4, 4)
    again = maps.copy()
    again[2] += 0.03
    _compare("maps", again, maps, maps)
    again[3, :2] += 0.03
    with pytest.raises(CanaryError, match="maps moved by"):
        _compare("maps", again, maps, maps)


def test_outliers_do_not_widen_what_the_others_may_move_by():
    """Once a score in twenty was +-1000, and all others were free to move by 2."""
    every = EVERY.copy()
    every[[0, -1]] = -1000, 1000
    again = every.copy()
    again[10:18] = every[17:9:-1]
    with pytest.raises(CanaryError, match="past 14% of all others"):
        _compare("scores", again[8:20], every[8:20], every)
    _compare("scores", every[8:20] + 1e-6, every[8:20], every)


def test_outliers_among_pixels_do_not_free_the_others():
    maps = np.random.default_rng(0).random((4, 64, 64)).astype(np.float32)
    maps[:, 0, 0] = 1000
    again = maps.copy()
    again[1:3, 20:40, 20:40] += 0.5
    with pytest.raises(CanaryError, match=r"maps moved by 0\.5"):
        _compare("maps", again, maps, maps)
    _compare("maps", maps + np.float32(1e-6), maps, maps)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_constant_scores_are_the_same(value):
    every = np.full(50, value, np.float32)
    _compare("scores", every[:8], every[:8], every)
