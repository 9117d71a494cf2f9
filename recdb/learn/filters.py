"""Spectral filters, which also find neighbours among items that never occurred together.

R = sqrt(c) D_r^-a W D_i^-b is the matrix of rows and items, c the rows' counts, and P = R'R. An eigenvector of P with a
large eigenvalue is a taste that many rows share, one with a small eigenvalue is mostly chance. A filter adds
V diag(h(l)) V' to P, with the eigenvectors V of the largest eigenvalues and l these, in units of the largest of all:

- "ideal" is the low-pass filter of GF-CF (Shen et al., CIKM 2021): h = w.
- "second-order" lowers the tastes that most rows share: h = -w l^2, so that P becomes P - w P^2. So do the polynomials
  of Turbo-CF (Park et al., SIGIR 2024) and the sharpening of BSPM (Choi et al., SIGIR 2023).
- "chebyshev" is the plateau of ChebyCF (Kim et al., SIGIR 2025) in place of P, and an ideal low-pass filter:
  h = 1/2 -+ 1/2 |1 - 2 l|^p - l + w.
- "ridge" is P (P + I / w)^-1 / w in place of P, the linear regression of items on items: h = -l^2 / (l + 1 / w). It is
  EASE without the constraint that no item predicts itself.

Here w is `spectral_weight` and p is `spectral_power`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy import sparse

from recdb.learn.basis import singular_vectors
from recdb.learn.limits import Rows
from recdb.learn.matrix import Float32, Float64, Progress, absolute_sums, inverse_power, scale
from recdb.learn.params import Params

Filter = Callable[[Float64, float, float], Float64]
"""From the eigenvalues, the weight w and the power p to h."""


def ideal(eigenvalues: Float64, weight: float, power: float) -> Float64:
    """GF-CF's filter: all eigenvectors count alike."""
    return np.full(len(eigenvalues), weight)


def second_order(eigenvalues: Float64, weight: float, power: float) -> Float64:
    """The negative second-order term."""
    return -weight * eigenvalues**2


def chebyshev(eigenvalues: Float64, weight: float, power: float) -> Float64:
    """ChebyCF's plateau in place of P, and the ideal filter."""
    distance = 1 - 2 * np.clip(eigenvalues, 0, 1)
    return (1 - np.sign(distance) * np.abs(distance) ** power) / 2 - eigenvalues + weight


def ridge(eigenvalues: Float64, weight: float, power: float) -> Float64:
    """Ridge regression in place of P."""
    return -weight * eigenvalues**2 / (weight * eigenvalues + 1)


FILTERS: Mapping[str, Filter] = {
    "ideal": ideal,
    "second-order": second_order,
    "chebyshev": chebyshev,
    "ridge": ridge,
}


@dataclass(frozen=True)
class Spectrum:
    """The largest eigenvalues of P and their eigenvectors V; those of any lower rank are the first of these."""

    vectors: Float32
    """V: (items, rank), orthonormal columns; a column is 0 where P has a lower rank."""
    eigenvalues: Float64
    """(rank,), descending."""

    def first(self, rank: int) -> Self:
        """Return the spectrum of a lower rank."""
        return type(self)(self.vectors[:, :rank], self.eigenvalues[:rank])

    def response(self, params: Params) -> Float32:
        """Return h, (rank,), in the units of P; 0 where P has a lower rank."""
        largest = float(self.eigenvalues.max(initial=0))
        if largest <= 0:
            return np.zeros(len(self.eigenvalues), dtype=np.float32)
        relative = self.eigenvalues / largest
        found = FILTERS[params.spectral_filter](relative, params.spectral_weight, params.spectral_power) * largest
        return np.where(self.eigenvalues > 0, found, 0).astype(np.float32)


def symmetric_exponent(params: Params) -> float:
    """Return b, the exponent at which P is symmetric: co-occurrences divided by d_j^x d_i^y are D^-e P D^e."""
    return (params.source_exponent + params.target_exponent) / 2


def spectral_rows(rows: Rows, user_exponent: float, item_exponent: float) -> sparse.csr_array:
    """Return R = sqrt(c) D_r^-a W D_i^-b, (rows, items)."""
    by_row = np.sqrt(rows.counts) * inverse_power(absolute_sums(rows.weights)[0], user_exponent)
    return scale(rows.weights, by_row, inverse_power(rows.item_sums(), item_exponent))


def find_spectrum(rows: Rows, params: Params, rank: int, progress: Progress | None = None) -> Spectrum:
    """Decompose P; the time grows with the rank, and with the square of the rank for many items."""
    scaled = spectral_rows(rows, params.item_user_exponent, symmetric_exponent(params))
    vectors, singular = singular_vectors(scaled, rank, progress=progress)
    return Spectrum(vectors, singular**2)
