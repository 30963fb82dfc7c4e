"""Greedy k-centre: the points that leave no other point far away.

Sener and Savarese, Active Learning for Convolutional Neural Networks: A Core-Set Approach, arXiv:1708.00489, Alg. 1.
Same choice rule as anomalib's `KCenterGreedy`; that one allocates all differences anew for every point chosen, which
fragmented the heap to 21 GB at 20,000 points on a CPU. Here a matrix-vector product into a kept buffer does it.
"""

import torch
from anomalib.models.components.dimensionality_reduction import SparseRandomProjection
from torch import Tensor

PROJECTION_EPS = 0.9  # distortion allowed by the random projection, as in the paper's code


def coreset(points: Tensor, count: int) -> Tensor:
    """Return at most `count` rows of `points` (N, D), chosen greedily from a random start; (count, D)."""
    if len(points) <= count:
        return points
    return points[greedy_centres(_project(points), count)]


def greedy_centres(points: Tensor, count: int) -> Tensor:
    """Indices (count,) of rows of `points` (N, D): each next one is the farthest from all chosen before."""
    squares = points.square().sum(1)
    nearest = torch.full_like(squares, torch.inf)  # squared distance to the nearest centre
    distance = torch.empty_like(squares)
    chosen = torch.empty(count, dtype=torch.long, device=points.device)
    index = torch.randint(len(points), (), device=points.device)
    for i in range(count):
        chosen[i] = index
        torch.mv(points, points[index], out=distance)
        distance.mul_(-2).add_(squares).add_(squares[index])
        torch.minimum(nearest, distance, out=nearest)
        nearest[index] = -torch.inf  # rounding must not choose a point twice
        index = nearest.argmax()
    return chosen


def _project(points: Tensor) -> Tensor:
    """Fewer dimensions by a sparse random projection, where that is fewer."""
    projection = SparseRandomProjection(eps=PROJECTION_EPS)
    projection.fit(points)
    if projection.sparse_random_matrix.shape[0] >= points.shape[1]:
        return points
    return projection.transform(points)
