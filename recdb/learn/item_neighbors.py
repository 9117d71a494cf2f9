"""Learns each item's neighbours: the items that it recommends."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy import sparse

from recdb.errors import InvalidInput
from recdb.learn.limits import Rows
from recdb.learn.matrix import (
    Float32,
    Float64,
    Progress,
    absolute_sums,
    inverse_power,
    row_numbers,
    scale,
    signed_power,
)
from recdb.learn.params import Params

BLOCK_PRODUCTS = 1 << 22
EASE_ITEMS = 20_000
NOISE = 1e-6
"""Smaller weights of EASE, in units of the largest weight, are rounding errors between unrelated items."""


@dataclass(frozen=True)
class ItemNeighbors:
    """The neighbours of some items."""

    items: NDArray[np.int64]
    """(rows,), ascending."""
    weights: sparse.csr_array
    """(rows, all items): [r, i] is the weight that item `items[r]` gives to item i; at most M per row, and itself."""
    totals: Float64 | None = None
    """(rows,): by how much the weights of a row are divided; None for the sums of their magnitudes."""


def to_matrix(learned: Iterable[ItemNeighbors], items: int) -> sparse.csr_array:
    """Put blocks together to N, (items, items): N[j, i] is the weight that item j gives to item i."""
    counts = np.zeros(items, dtype=np.int64)
    parts = []
    for block in learned:
        counts[block.items] = np.diff(block.weights.indptr)
        parts.append(block.weights)
    if not parts:
        return sparse.csr_array((items, items), dtype=np.float32)
    data, indices = np.concatenate([part.data for part in parts]), np.concatenate([part.indices for part in parts])
    return sparse.csr_array((data, indices, np.concatenate([[0], np.cumsum(counts)])), shape=(items, items))


def strongest(rows: sparse.csr_array, itself: NDArray[np.bool_], count: int) -> sparse.csr_array:
    """Keep the `count` entries of the largest magnitude in each row, and those marked `itself`."""
    kept = np.zeros(rows.nnz, dtype=np.bool_)
    order = np.where(itself, -np.inf, -np.abs(rows.data))
    for start, stop in pairwise(rows.indptr):
        if stop - start <= count + 1:
            kept[start:stop] = True
        else:
            kept[start + order[start:stop].argpartition(count)[: count + 1]] = True
    kept &= rows.data != 0
    starts = np.concatenate([[0], np.cumsum(kept)])[rows.indptr]
    return sparse.csr_array((rows.data[kept], rows.indices[kept], starts), shape=rows.shape)


def fit_item_neighbors(
    rows: Rows, right: Float32, params: Params, progress: Progress | None = None
) -> Iterator[ItemNeighbors]:
    """Learn item neighbours by `params.learner`, a block of items at a time.

    `rows` are those of rows_to_learn_from(). `right` (items, dimension) is V of the basis; it is read where
    `params.spectral_weight` is not 0.
    """
    if params.learner == "ease":
        return fit_ease(rows, params, progress)
    return fit_cooccurrence(rows, right, params, progress)


def fit_cooccurrence(
    rows: Rows, right: Float32, params: Params, progress: Progress | None = None
) -> Iterator[ItemNeighbors]:
    """Learn from items that occur together, by degree-normalized co-occurrence.

    N_ji = (d_j^-x d_i^-y sum_r c_r d_r^-2a W_rj W_ri)^s + lambda (V_j . V_i) sqrt(d_i / d_j), where j and i occur
    together, and c_r is the row's count; the diagonal is the same sum, times `self_weight`. With s = 1 and lambda = 0
    this is the random walk of RP3beta (Paudel et al. 2017), with x = y = 1 - a the graph filter of Turbo-CF (Park et
    al. 2024); lambda adds GF-CF's ideal low-pass filter (Shen et al. 2021).
    """
    weights = rows.weights
    item_sums = rows.item_sums()
    every_row = np.ones(weights.shape[0], dtype=np.float32)
    by_row = rows.counts * inverse_power(absolute_sums(weights)[0], 2 * params.item_user_exponent)
    sources = scale(weights, by_row, inverse_power(item_sums, params.source_exponent)).T.tocsr()
    targets = scale(weights, every_row, inverse_power(item_sums, params.target_exponent))
    known = np.flatnonzero(item_sums > 0)
    for chosen in product_blocks(known, sources, targets):
        if progress:
            progress(f"item neighbours, {np.searchsorted(known, chosen[0]):,} of {len(known):,}")
        given = sparse.csr_array(sources[chosen] @ targets)
        if params.cooccurrence_power != 1:
            given.data = signed_power(given.data, params.cooccurrence_power)
        numbers = row_numbers(given)
        itself = given.indices == chosen[numbers]
        given.data[itself] *= np.float32(params.self_weight)
        if params.spectral_weight > 0:
            spectral = params.spectral_weight * spectral_similarity(right, chosen, given, item_sums)
            given.data += np.where(itself, 0, spectral).astype(np.float32)
        yield ItemNeighbors(chosen, strongest(given, itself, params.item_neighbors))


def spectral_similarity(
    right: Float32, sources: NDArray[np.integer], rows: sparse.csr_array, item_sums: Float64
) -> Float64:
    """Return (V_j . V_i) sqrt(d_i / d_j) for each entry i of `rows` (sources, items) in the row of source j."""
    similarity = np.empty(rows.nnz)
    for source, (start, stop) in zip(sources, pairwise(rows.indptr), strict=True):
        similarity[start:stop] = right[rows.indices[start:stop]] @ right[source]
    similarity *= np.sqrt(item_sums[rows.indices] / item_sums[sources][row_numbers(rows)])
    return similarity


def product_blocks(
    known: NDArray[np.int64], sources: sparse.csr_array, targets: sparse.csr_array
) -> Iterator[NDArray[np.int64]]:
    """Divide the items into blocks whose products with `targets` take at most BLOCK_PRODUCTS multiplications."""
    lengths = np.diff(targets.indptr).astype(np.int64)
    work = np.concatenate([[0], np.cumsum(lengths[sources.indices])])
    products = work[sources.indptr[known + 1]] - work[sources.indptr[known]]
    block = np.cumsum(products) // BLOCK_PRODUCTS
    return iter(np.split(known, np.flatnonzero(np.diff(block)) + 1)) if len(known) else iter(())


def fit_ease(rows: Rows, params: Params, progress: Progress | None = None) -> Iterator[ItemNeighbors]:
    """Learn by EASE^R (Steck 2019): N = -P / diag(P), P = (A'A + lambda I)^-1, signs kept, A = sqrt(c) D_r^-a W D_i^-y.

    Exact and dense: raises InvalidInput for more than EASE_ITEMS items. EASE gives an item no weight for itself; this
    learner gives it `self_weight` times the weight of its strongest neighbour.
    """
    weights = rows.weights
    item_sums = rows.item_sums()
    known = np.flatnonzero(item_sums > 0)
    if len(known) > EASE_ITEMS:
        raise InvalidInput(
            f"EASE inverts a dense matrix and stops at {EASE_ITEMS:,} items; there are {len(known):,}",
            "use the learner 'cooccurrence'",
        )
    if progress:
        progress("item neighbours, inverting")
    by_row = np.sqrt(rows.counts) * inverse_power(absolute_sums(weights)[0], params.item_user_exponent)
    scaled = scale(weights, by_row, inverse_power(item_sums, params.target_exponent))[:, known]
    gram = (scaled.T @ scaled).toarray()
    gram[np.diag_indices_from(gram)] += np.float32(params.ease_regularization * gram.trace() / max(len(known), 1))
    inverse = scipy.linalg.inv(gram, overwrite_a=True, check_finite=False)
    learned = np.divide(inverse, -np.diag(inverse), out=inverse)
    np.fill_diagonal(learned, 0)
    learned[np.abs(learned) < NOISE * np.abs(learned).max(initial=0)] = 0
    np.fill_diagonal(learned, params.self_weight * np.abs(learned).max(axis=1, initial=0))
    count = min(params.item_neighbors + 1, len(known))
    step = max(1, BLOCK_PRODUCTS // len(known))
    for start in range(0, len(known), step):
        part = learned[start : start + step]
        magnitudes = np.abs(part)
        magnitudes[np.arange(len(part)), np.arange(start, start + len(part))] = np.inf
        columns = np.argpartition(-magnitudes, count - 1, axis=1)[:, :count]
        values = np.take_along_axis(part, columns, axis=1)
        starts = np.arange(0, columns.size + 1, count)
        given = sparse.csr_array((values.ravel(), known[columns].ravel(), starts), shape=(len(part), weights.shape[1]))
        given.eliminate_zeros()
        yield ItemNeighbors(known[start : start + step], given)
