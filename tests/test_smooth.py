"""Smoothing of maps: the Gaussian of anomalib and torchvision, whatever the size of the map."""

import pytest
import torch
from anomalib.models.components.filters import GaussianBlur2d

from bench.api import smooth


@pytest.mark.parametrize("sigma, shape", [(4.0, (3, 1, 40, 56)), (1.5, (1, 1, 16, 16)), (0.5, (2, 1, 9, 8))])
def test_it_is_anomalibs(sigma, shape):
    maps, kernel = torch.rand(shape, generator=torch.Generator().manual_seed(0)), 2 * int(4 * sigma + 0.5) + 1
    expected = GaussianBlur2d(kernel_size=(kernel, kernel), sigma=(sigma, sigma))(maps)
    torch.testing.assert_close(smooth(maps, sigma), expected, rtol=0, atol=5e-6)


def test_a_map_smaller_than_the_kernel_is_reflected_once():
    maps = torch.zeros(1, 1, 4, 4)
    maps[..., 1, 2] = 1
    found = smooth(maps, 4.0)
    assert found.shape == maps.shape and found.isfinite().all() and (found > 0).all()
    torch.testing.assert_close(smooth(torch.full((1, 1, 4, 4), 0.3), 4.0), torch.full((1, 1, 4, 4), 0.3))
