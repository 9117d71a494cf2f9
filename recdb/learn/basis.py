"""The basis: item vectors, learned by a truncated SVD; a user's vector is a weighted sum of them."""

from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy import sparse

from recdb.learn.matrix import (
    Float32,
    Float64,
    Precision,
    Progress,
    absolute_sums,
    inverse_power,
    largest_to_one,
    scale,
    with_data,
)

LONGEST_NORM = 1000.0
"""The longest item vector is scaled to this length, so that half precision keeps the short vectors."""
NOISE_NORM = 0.1
"""A weighted sum (weights at most 1) that is shorter than this is noise, not a vector."""

BLOCK_ROWS = 65536


@dataclass(frozen=True)
class Basis:
    """Item vectors b_i = d_i^-b V_i S^-p, and the singular vectors V."""

    item_vectors: Float32
    """(items, dimension), scaled to a longest norm of LONGEST_NORM; rows of unknown items are 0."""
    right: Float32
    """V: (items, dimension), orthonormal columns."""


@dataclass(frozen=True)
class Decomposition:
    """D_u^-a W D_i^-b ~ P S V', truncated: it gives the basis of any smaller dimension and any p."""

    right: Float32
    """V: (items, rank), orthonormal columns; a column is 0 where the matrix has a lower rank."""
    singular_values: Float64
    """(rank,), descending; 0 where the matrix has a lower rank."""
    by_item: Float32
    """(items,): d_i^-b."""

    def basis(self, dimension: int, spectrum_exponent: float) -> Basis:
        """Return the basis of the `dimension` largest singular values."""
        right = self.right[:, :dimension]
        vectors = right * self.by_item[:, None] * inverse_power(self.singular_values[:dimension], spectrum_exponent)
        longest = float(np.sqrt((vectors.astype(np.float64) ** 2).sum(axis=1).max(initial=0)))
        if longest > 0:
            vectors *= np.float32(LONGEST_NORM / longest)
        return Basis(vectors, right)


def orthonormal(block: Float32, passes: int) -> Float32:
    """Return an orthonormal basis of the columns' span, (rows, rank).

    Each of the `passes` goes through the Gram matrix in double precision. After one pass the errors of single precision
    remain, after two they do not: this is CholeskyQR2 (Fukaya et al. 2014) with an eigendecomposition in place of
    Cholesky's, so that a deficient rank only narrows the block. For about 100 columns it takes a tenth of the time of a
    Householder QR.
    """
    for _ in range(passes):
        doubled = block.astype(np.float64)
        eigenvalues, rotation = scipy.linalg.eigh(doubled.T @ doubled)
        solid = eigenvalues > eigenvalues[-1] * 1e-9
        block = (doubled @ (rotation[:, solid] / np.sqrt(eigenvalues[solid]))).astype(np.float32)
    return block


def fit_basis(
    weights: sparse.csr_array,
    *,
    dimension: int,
    user_exponent: float,
    item_exponent: float,
    spectrum_exponent: float,
    progress: Progress | None = None,
) -> Basis:
    """Learn item vectors from a users x items matrix."""
    decomposition = decompose(
        weights, rank=dimension, user_exponent=user_exponent, item_exponent=item_exponent, progress=progress
    )
    return decomposition.basis(dimension, spectrum_exponent)


def decompose(
    weights: sparse.csr_array,
    *,
    rank: int,
    user_exponent: float,
    item_exponent: float,
    iterations: int = 4,
    seed: int = 0,
    progress: Progress | None = None,
) -> Decomposition:
    """Decompose a users x items matrix: find the singular vectors of D_u^-a W D_i^-b."""
    user_sums, item_sums = absolute_sums(weights)
    by_item = inverse_power(item_sums, item_exponent)
    scaled = scale(weights, inverse_power(user_sums, user_exponent), by_item)
    right, singular = singular_vectors(scaled, rank, iterations=iterations, seed=seed, progress=progress)
    return Decomposition(right, singular, by_item)


def singular_vectors(
    scaled: sparse.csr_array,
    rank: int,
    *,
    iterations: int = 4,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[Float32, Float64]:
    """Return the right singular vectors of a rows x items matrix, (items, rank), and its largest singular values.

    Randomized subspace iteration (Halko, Martinsson and Tropp, 2011) finds them. It works on the smaller side and
    applies S'S (or SS') block by block: memory is a few arrays of that side x (rank + 16), whatever the size of the
    other side. Where the matrix has a lower rank, columns and values are 0.
    """
    rows, items = scaled.shape
    tall = scaled if items <= rows else scaled.T.tocsr()
    size = min(rows, items)
    rank = min(rank, size)
    if not scaled.nnz:
        return np.zeros((items, rank), dtype=np.float32), np.zeros(rank)

    def gram(block: Float32) -> Float32:
        total = np.zeros((size, block.shape[1]), dtype=np.float32)
        for start in range(0, tall.shape[0], BLOCK_ROWS):
            part = tall[start : start + BLOCK_ROWS]
            total += part.T @ (part @ block)
        return total

    generator = np.random.default_rng(seed)
    q = generator.standard_normal((size, min(rank + 16, size)), dtype=np.float32)
    for step in range(iterations):
        if progress:
            progress(f"decomposing, pass {step + 1} of {iterations + 1}")
        q = orthonormal(gram(q), passes=2 if step == iterations - 1 else 1)
    if progress:
        progress(f"decomposing, pass {iterations + 1} of {iterations + 1}")
    small = (q.T @ gram(q)).astype(np.float64)
    eigenvalues, rotation = scipy.linalg.eigh((small + small.T) / 2)
    order = np.argsort(eigenvalues)[::-1][:rank]
    singular = np.sqrt(np.maximum(eigenvalues[order], 0))
    singular = np.where(singular > singular[:1] * 1e-4, singular, 0)
    right = (q @ rotation[:, order]).astype(np.float32)
    if tall is not scaled:
        right = (tall @ right) * inverse_power(singular, 1.0)
    return np.where(singular > 0, right, np.float32(0)), singular


def fold_in(
    profiles: sparse.csr_array, item_vectors: Float32, dtype: Precision = np.float32
) -> tuple[Float32, NDArray[np.bool_]]:
    """Place users in the basis: return their unit vectors, and which of them have one.

    `profiles` is (users, items). Returns (users, dimension) and a mask (users,). Each profile is scaled so that its
    largest weight is 1; where the sum is then shorter than NOISE_NORM, the user has no vector, and the row is 0.

    SQL adds a profile's items one after the other, in single precision, and divides by a norm in double precision. With
    `dtype` double, and entries in the same order, the vectors are those of SQL bit by bit, up to rare last bits: they
    are rounded to half precision afterwards, which magnifies differences.
    """
    scaled = largest_to_one(profiles, dtype)
    sums = with_data(scaled, scaled.data.astype(np.float32)) @ item_vectors
    norms = np.linalg.norm(sums.astype(dtype), axis=1)
    solid = norms >= NOISE_NORM
    vectors = np.divide(sums, norms[:, None], out=np.zeros_like(sums), where=solid[:, None], casting="same_kind")
    return vectors, solid
