"""Orthonormal bases of what a layer has seen: how they begin, grow from step to step, and fit a budget."""

from typing import NamedTuple

import torch
from torch import Tensor

NOISE = 1e-3  # a unit vector that sticks out of a span by less than this is taken to lie in it


class Span(NamedTuple):
    """A basis and what each of its vectors stood for when it was added."""

    vectors: Tensor  # (in, r), orthonormal
    shares: Tensor  # (r,), of the energy of the layer's input in that step


def leading(vectors: Tensor, energies: Tensor, threshold: float, rounding: float, *, below: bool = False) -> Span:
    """The fewest of `vectors` (in, n), descending in `energies` (n,), that hold `threshold` (0..1) of the energy.

    `below`: one fewer, the most that do not hold it, one at least, as One-for-More's code has it. Those of less than
    `rounding` times the largest energy are taken for rounding errors.
    """
    energies = energies.double().clamp_min(0)  # a float32 sum can fall short of it and end a full span early
    share = energies / energies.sum().clamp_min(torch.finfo(torch.float32).tiny)
    real = int((energies > rounding * energies.max()).sum())
    short = int((share.cumsum(0) < threshold).sum())
    count = min(max(1, short) if below else short + 1, real)
    return Span(vectors[:, :count].contiguous(), share[:count].float())


def grow(old: Span | None, new: Span, threshold: float, *, literal: bool = False) -> Span:
    """Extend `old` until it covers `threshold` (0..1) of the vectors of `new` (Saha et al. 2021, equations 8 and 9).

    With R = U - P Pᵀ U = A S Bᵀ the leading columns of A are appended. `literal`: the first columns of R are, as
    One-for-More's code has it; the result is neither orthonormal nor does P Pᵀ project.
    """
    if old is None:
        return new
    P, U = old.vectors.to(new.vectors), new.vectors
    R = U - P @ (P.T @ U)
    A, S, Bh = torch.linalg.svd(R, full_matrices=False)
    gain = S.square() / U.shape[1]
    covered = 1 - gain.sum() + gain.cumsum(0) - gain  # before each column is added
    room = max(0, P.shape[0] - P.shape[1])
    count = min(int(((covered < threshold) & (S > NOISE)).sum()), room)
    if literal:
        return Span(torch.cat([P, R[:, :count]], 1), torch.cat([old.shares, new.shares[:count]]))
    joined = torch.linalg.qr(torch.cat([P, A[:, :count]], 1)).Q  # those of P up to their sign; A anew at right angles
    return Span(joined, torch.cat([old.shares, Bh[:count].square() @ new.shares]))


def within(budget: int, spans: dict[str, Span], itemsize: int) -> dict[str, Span]:
    """Keep of all layers' vectors those with the largest share of energy per byte, `budget` bytes in all.

    A layer that loses all its vectors stays, unprotected, with none.
    """
    value = torch.cat([span.shares.cpu() / span.vectors.shape[0] for span in spans.values()])
    bytes_of = [torch.full(span.shares.shape, _bytes(span, itemsize)) for span in spans.values()]
    order = value.argsort(descending=True, stable=True)
    fits = torch.cat(bytes_of)[order].cumsum(0) <= budget
    kept = torch.zeros_like(fits).scatter(0, order, fits)
    masks = kept.split([len(span.shares) for span in spans.values()])
    return {
        name: Span(span.vectors[:, mask.to(span.vectors.device)], span.shares[mask.to(span.shares.device)])
        for (name, span), mask in zip(spans.items(), masks, strict=True)
    }


def _bytes(span: Span, itemsize: int) -> int:
    """Of one vector and its share."""
    return span.vectors.shape[0] * itemsize + span.shares.element_size()
