"""Item-to-item learners: what each item recommends."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recdb.learn.basis import Float32, Progress, absolute_sums, inverse_power, scale, signed_power

BLOCK_BYTES = 256 * 2**20


@dataclass(frozen=True)
class ItemNeighbors:
    """The strongest items of some items: row r holds what item `items[r]` recommends."""

    items: NDArray[np.int64]
    """(rows,), ascending."""
    neighbors: NDArray[np.int32]
    """(rows, M), strongest first."""
    weights: Float32
    """(rows, M), in the order of `neighbors`; 0 where an item has fewer."""

    def to_matrix(self, items: int) -> sparse.csr_array:
        """Return the neighbours as a sparse (items, items) matrix N with N[j, i] = what j gives to i."""
        rows = np.repeat(self.items, self.neighbors.shape[1])
        matrix = sparse.csr_array(
            (self.weights.ravel(), (rows, self.neighbors.ravel())), shape=(items, items), dtype=np.float32
        )
        matrix.eliminate_zeros()
        return matrix


def strongest(rows: Float32, items: NDArray[np.int64], count: int, self_weight: float) -> ItemNeighbors:
    """Cut dense rows (len(items), all items) to their `count` largest magnitudes; the diagonal is set, not learned."""
    index = np.arange(len(items))
    rows[index, items] = 0
    if self_weight > 0:
        rows[index, items] = self_weight * np.abs(rows).max(axis=1)
    count = min(count, rows.shape[1])
    neighbors = np.argpartition(-np.abs(rows), count - 1, axis=1)[:, :count]
    weights = np.take_along_axis(rows, neighbors, axis=1)
    order = np.argsort(-np.abs(weights), axis=1, kind="stable")
    return ItemNeighbors(
        items,
        np.take_along_axis(neighbors, order, axis=1).astype(np.int32),
        np.take_along_axis(weights, order, axis=1),
    )


def fit_cooccurrence(
    weights: sparse.csr_array,
    right: Float32,
    *,
    exponent: float,
    power: float,
    spectral_weight: float,
    self_weight: float,
    count: int,
    progress: Progress | None = None,
) -> Iterator[ItemNeighbors]:
    """Learn what each item recommends from what occurs together, block of items by block.

    N = ((W_a' W_a)_ji)^s + lambda (V_j . V_i) sqrt(d_i / d_j) with W_a = D_u^-a W D_i^-(1-a): graph filters (GF-CF,
    Shen et al. 2021; Turbo-CF, Park et al. 2024). `right` is V of the basis, (items, dimension).
    """
    items = weights.shape[1]
    user_sums, item_sums = absolute_sums(weights)
    scaled = scale(weights, inverse_power(user_sums, exponent), inverse_power(item_sums, 1 - exponent))
    transposed = scaled.T.tocsr()
    by_target = np.sqrt(item_sums).astype(np.float32)
    by_source = inverse_power(item_sums, 0.5)
    block = max(1, min(items, BLOCK_BYTES // (4 * items)))
    known = np.flatnonzero(item_sums > 0)
    for start in range(0, len(known), block):
        if progress:
            progress(f"item neighbours, {start:,} of {len(known):,}")
        chosen = known[start : start + block]
        rows = np.asarray((transposed[chosen] @ scaled).toarray(), dtype=np.float32)
        if power != 1:
            rows = signed_power(rows, power)
        if spectral_weight > 0:
            rows += spectral_weight * by_source[chosen, None] * (right[chosen] @ right.T) * by_target
        yield strongest(rows, chosen, count, self_weight)
