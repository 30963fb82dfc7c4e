"""Two ways from a layer's input columns, image after image, to the span of a step."""

import torch
from torch import Tensor

from methods.gradient_projection.span import Span, leading

ROWS = 512  # of a Gram matrix that are added up at once, as far as the diagonal: what is above it needs no sums


class Gram:
    """Adds up X Xᵀ of every layer; its eigenvectors are the left singular vectors of all columns side by side.

    Holds Σ in² numbers, whatever the number of images, where the spans will be kept.
    """

    def __init__(self, energy: float, device: torch.device | str, *, below: bool = False):
        self.energy, self.device, self.below = energy, device, below
        self.sums: dict[str, Tensor] = {}

    def add(self, name: str, columns: Tensor) -> None:
        """Take columns (in, n) of the layer `name`."""
        if name not in self.sums:
            self.sums[name] = columns.new_zeros(len(columns), len(columns), device=self.device)
        for start in range(0, len(columns), ROWS):
            rows = columns[start : start + ROWS]
            lower = self.sums[name][start : start + ROWS, : start + ROWS]
            lower += (rows @ columns[: start + ROWS].T).to(lower)

    def end_image(self) -> None:
        """An image is complete: nothing to do."""

    def spans(self) -> dict[str, Span]:
        """Return the span of each layer, and let the sums go one by one."""
        found = {}
        for name in list(self.sums):
            gram = self.sums.pop(name)
            energies, vectors = torch.linalg.eigh(gram.double(), UPLO="L")  # ascending; in float32 it may not converge
            vectors, energies = vectors.flip(1).to(gram), energies.flip(0).to(gram)
            found[name] = leading(vectors, energies, self.energy, _rounding(gram), below=self.below)
        return found


class IterativeSvd:
    """After each image, the leading left singular vectors of [those so far | the image's columns] (One-for-More).

    The vectors so far count one each, whatever energy they stood for: below an energy of 1, an image of large inputs
    drives out what earlier ones had, and the span leans to the last.
    """

    def __init__(self, energy: float, device: torch.device | str, *, below: bool = False):
        self.energy, self.device, self.below = energy, device, below
        self.found: dict[str, Span] = {}
        self.columns: dict[str, list[Tensor]] = {}  # of the image under way

    def add(self, name: str, columns: Tensor) -> None:
        """Take columns (in, n) of the layer `name`."""
        self.columns.setdefault(name, []).append(columns)

    def end_image(self) -> None:
        """Fold the image's columns into the vectors so far."""
        for name, parts in self.columns.items():
            before = [self.found[name].vectors.to(parts[0])] if name in self.found else []
            vectors, energies = _left_singular(torch.cat([*before, *parts], 1))
            exact = _rounding(vectors) ** 2  # the singular values are that exact, the energies are their squares
            vectors, shares = leading(vectors, energies, self.energy, exact, below=self.below)
            self.found[name] = Span(vectors.to(self.device), shares.to(self.device))
        self.columns = {}

    def spans(self) -> dict[str, Span]:
        """Return the span of each layer."""
        return self.found


def _left_singular(columns: Tensor) -> tuple[Tensor, Tensor]:
    """Left singular vectors (in, k) of columns (in, n), and the squares (k,) of their singular values, largest first.

    Where columns are many they are the eigenvectors of X Xᵀ: a quarter of the time, and in float64 as exact.
    """
    if columns.shape[1] <= columns.shape[0]:
        U, S, _ = torch.linalg.svd(columns, full_matrices=False)
        return U, S.square()
    exact = columns.double()
    energies, vectors = torch.linalg.eigh(exact @ exact.T)  # ascending
    return vectors.flip(1).to(columns), energies.flip(0).to(columns)


def _rounding(values: Tensor) -> float:
    """How small a value is beside the largest if it is nothing but rounding."""
    return 16 * torch.finfo(values.dtype).eps


ROUTES = {"gram": Gram, "isvd": IterativeSvd}
