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
    maps = np.zeros((4, 2, 2), np.float32)
    maps[0, 0, 0] = 1
    again = maps.copy()
    again[2] += 0.03
    _compare("maps", again, maps, maps)
    again[3, 1, 1] += 0.03
    with pytest.raises(CanaryError, match="maps moved by"):
        _compare("maps", again, maps, maps)
