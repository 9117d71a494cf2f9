"""Learns each item's neighbours: the items that it recommends."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph

from recdb.learn.basis import singular_vectors
from recdb.learn.filters import Spectrum, find_spectrum, spectral_rows, symmetric_exponent
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
from recdb.learn.parallel import CORES, in_threads
from recdb.learn.params import Params
from recdb.learn.recount import predicting_items, recount
from recdb.learn.refit import refit, regularization, regularized_gram

BLOCK_PRODUCTS = 1 << 22
EASE_ITEMS = 20_000
"""EASE inverts a dense matrix of up to this many items, and decomposes a sparse one for more."""
FILTERED_ITEMS = 40_000
"""With more items, a spectral filter adds to the items that occur together only: the time for all pairs is too long."""
THREADS = min(4, CORES)
NOISE = 1e-6
"""Smaller weights of EASE or a filter, in units of the largest, are rounding errors between unrelated items."""


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


def strongest_of_dense(
    rows: Float32, chosen: NDArray[np.int64], itself: NDArray[np.floating], count: int
) -> sparse.csr_array:
    """Keep the `count` entries of the largest magnitude in each row, and give each item its weight for itself.

    `rows` (chosen, items) is overwritten; `itself` (chosen,).
    """
    places = np.arange(len(chosen)), chosen
    rows[places] = 0
    magnitudes = np.abs(rows)
    rows[magnitudes < NOISE * magnitudes.max(axis=1, initial=0, keepdims=True)] = 0
    magnitudes[places] = np.inf
    count = min(count + 1, rows.shape[1])
    columns = np.argpartition(magnitudes, -count, axis=1)[:, -count:]
    columns.sort(axis=1)
    rows[places] = itself
    kept = np.take_along_axis(rows, columns, axis=1).ravel()
    found = sparse.csr_array((kept, columns.ravel(), np.arange(0, columns.size + 1, count)), shape=rows.shape)
    found.eliminate_zeros()
    return found


@dataclass(frozen=True)
class Pairs:
    """The weights between all pairs of items: (sources targets)^s + left right', computed for a block at a time."""

    sources: sparse.csr_array
    """(items, rows)."""
    targets: sparse.csr_array
    """(rows, items)."""
    power: float = 1.0
    """s."""
    left: Float32 | None = None
    """(items, rank); None for no second term."""
    right: Float32 | None = None
    """(items, rank)."""
    parts: NDArray[np.int32] | None = None
    """(items,): by connected_items(); the second term links no items of different parts."""

    def together(self, chosen: NDArray[np.int64]) -> sparse.csr_array:
        """Return the first term, (chosen, items)."""
        given = sparse.csr_array(self.sources[chosen] @ self.targets)
        if self.power != 1:
            given.data = signed_power(given.data, self.power)
        return given

    def everywhere(self, chosen: NDArray[np.int64], given: sparse.csr_array) -> Float32:
        """Return both terms for all items, (chosen, items); `given` is the first."""
        assert self.left is not None and self.right is not None
        found: Float32 = self.left[chosen] @ self.right.T
        if self.parts is not None:
            found[self.parts[chosen, None] != self.parts] = 0
        found[row_numbers(given), given.indices] += given.data
        return found

    def where_together(self, chosen: NDArray[np.int64], given: sparse.csr_array) -> Float32:
        """Return the second term for the entries of the first, (entries,)."""
        assert self.left is not None and self.right is not None
        found = np.empty(given.nnz, dtype=np.float32)
        for source, (start, stop) in zip(chosen, pairwise(given.indptr), strict=True):
            found[start:stop] = self.right[given.indices[start:stop]] @ self.left[source]
        return found

    def blocks(self, known: NDArray[np.int64], *, dense: bool) -> Iterator[NDArray[np.int64]]:
        """Divide the items into blocks of at most BLOCK_PRODUCTS multiplications, and weights if `dense`."""
        lengths = np.diff(self.targets.indptr).astype(np.int64)
        work = np.concatenate([[0], np.cumsum(lengths[self.sources.indices])])
        products = work[self.sources.indptr[known + 1]] - work[self.sources.indptr[known]]
        block = np.cumsum(products + (self.targets.shape[1] if dense else 0)) // BLOCK_PRODUCTS
        return iter(np.split(known, np.flatnonzero(np.diff(block)) + 1)) if len(known) else iter(())


def connected_items(weights: sparse.csr_array) -> NDArray[np.int32] | None:
    """Return the part of each item, (items,): a chain of rows connects items of one part; None if there is one part.

    Eigenvectors of equal eigenvalues are any vectors of a space. So the first ones mix items of parts that are alike,
    such as pairs of items that two users each have, and rounding errors do so for all.
    """
    rows, items = weights.shape
    starts = np.r_[weights.indptr, np.full(items, weights.indptr[-1])]
    graph = sparse.csr_array((weights.data, weights.indices + rows, starts), shape=(rows + items, rows + items))
    _, labels = csgraph.connected_components(graph, directed=False)
    parts: NDArray[np.int32] = labels[rows:].astype(np.int32)
    return parts if len(np.unique(parts[np.unique(weights.indices)])) > 1 else None


def refits(params: Params, items: int) -> bool:
    """Tell whether the weights of so many items are solved again."""
    return params.learner == "ease" and params.ease_refit > 0 and items <= EASE_ITEMS


def fit_item_neighbors(
    rows: Rows,
    params: Params,
    progress: Progress | None = None,
    *,
    spectrum: Spectrum | None = None,
    sources: NDArray[np.integer] | None = None,
) -> Iterator[ItemNeighbors]:
    """Learn item neighbours by `params.learner`, a block of items at a time, solve EASE's again, and recount.

    `rows` are those of rows_to_learn_from(). `spectrum` is that of find_spectrum() with at least `spectral_rank`; it is
    found here if it is None and a filter needs it. With `sources` only these items' neighbours are learned.
    """
    known = np.flatnonzero(rows.item_sums() > 0)
    wanted = known if sources is None else np.intersect1d(known, sources)
    again = refits(params, len(known))
    if params.recount_exponent == 0 and not again:
        yield from fit_blocks(rows, params, known, wanted, spectrum, progress)
        return
    needed = known if again else np.intersect1d(known, np.union1d(wanted, predicting_items(rows)))
    learned = list(fit_blocks(rows, params, known, needed, spectrum, progress))
    matrix = to_matrix(learned, rows.weights.shape[1])
    if again:
        if progress:
            progress("item neighbours, solving again")
        matrix = refit(matrix, rows, params)
        learned = [replace(block, weights=matrix[block.items]) for block in learned]
    factors = recount(matrix, rows, params.recount_exponent) if params.recount_exponent else None
    for block in learned:
        chosen = np.isin(block.items, wanted)
        weights = block.weights[chosen]
        if factors is not None:
            weights.data *= factors[weights.indices]
        if chosen.any():
            yield ItemNeighbors(block.items[chosen], weights)


def fit_blocks(
    rows: Rows,
    params: Params,
    known: NDArray[np.int64],
    wanted: NDArray[np.int64],
    spectrum: Spectrum | None,
    progress: Progress | None,
) -> Iterator[ItemNeighbors]:
    """Learn the neighbours of the wanted items without a recount."""
    if params.learner == "ease":
        found = fit_ease(rows, params, known, wanted, progress)
    else:
        found = fit_cooccurrence(rows, params, wanted, spectrum, progress)
    for block in found:
        if progress:
            progress(f"item neighbours, {np.searchsorted(wanted, block.items[0]):,} of {len(wanted):,}")
        yield block


def fit_cooccurrence(
    rows: Rows,
    params: Params,
    wanted: NDArray[np.int64],
    spectrum: Spectrum | None = None,
    progress: Progress | None = None,
) -> Iterator[ItemNeighbors]:
    """Learn from items that occur together, by degree-normalized co-occurrence, and add a spectral filter.

    N_ji = (d_j^-x d_i^-y C_ji)^s + u^s d_j^-e (V diag(h) V')_ji d_i^e, with C_ji = sum_r c_r d_r^-2a W_rj W_ri, where
    c_r is the row's count; the diagonal is the first term's, times `self_weight`. The second term is that of filters.py
    for b = (x + y) / 2, where P = D^-b C D^-b is symmetric and the first term is D^-e P D^e, e = (x - y) / 2; with
    another s than 1 it is brought to the scale of the first by u^(s - 1), u the largest eigenvalue. Where W has
    dislikes, the second term turns no sign of the first, and links no items that never occur together: an item that is
    unlike a disliked one is not liked for it.

    With s = 1 and no filter this is the random walk of RP3beta (Paudel et al. 2017), with x = y = 1 - a the graph
    filter of Turbo-CF (Park et al. 2024), and with a = 1/2, x = 1, y = 0 and the ideal filter GF-CF (Shen et al. 2021).
    """
    weights, item_sums = rows.weights, rows.item_sums()
    every_row = np.ones(weights.shape[0], dtype=np.float32)
    by_row = rows.counts * inverse_power(absolute_sums(weights)[0], 2 * params.item_user_exponent)
    pairs = Pairs(
        scale(weights, by_row, inverse_power(item_sums, params.source_exponent)).T.tocsr(),
        scale(weights, every_row, inverse_power(item_sums, params.target_exponent)),
        params.cooccurrence_power,
    )
    if params.spectral_weight > 0:
        spectrum = (spectrum or find_spectrum(rows, params, params.spectral_rank, progress)).first(params.spectral_rank)
        largest = float(spectrum.eigenvalues.max(initial=0))
        response = spectrum.response(params) * np.float32(largest ** (params.cooccurrence_power - 1) if largest else 0)
        exponent = params.source_exponent - symmetric_exponent(params)
        pairs = replace(
            pairs,
            left=spectrum.vectors * response * inverse_power(item_sums, exponent)[:, None],
            right=spectrum.vectors * inverse_power(item_sums, -exponent)[:, None],
            parts=connected_items(weights),
        )
    filtered = params.spectral_weight > 0
    dislikes = bool(weights.data.min(initial=0) < 0)
    everywhere = filtered and not dislikes and len(np.flatnonzero(item_sums)) <= FILTERED_ITEMS

    def learn(chosen: NDArray[np.int64]) -> ItemNeighbors:
        given = pairs.together(chosen)
        itself = given.indices == chosen[row_numbers(given)]
        if everywhere:
            weights = np.zeros(len(chosen), dtype=np.float32)
            weights[row_numbers(given)[itself]] = given.data[itself] * np.float32(params.self_weight)
            found = strongest_of_dense(pairs.everywhere(chosen, given), chosen, weights, params.item_neighbors)
            return ItemNeighbors(chosen, found)
        given.data[itself] *= np.float32(params.self_weight)
        if filtered:
            both = given.data + np.where(itself, 0, pairs.where_together(chosen, given)).astype(np.float32)
            given.data = np.where(both * given.data <= 0, 0, both).astype(np.float32) if dislikes else both
        return ItemNeighbors(chosen, strongest(given, itself, params.item_neighbors))

    return in_threads(learn, pairs.blocks(wanted, dense=everywhere), THREADS)


def fit_ease(
    rows: Rows,
    params: Params,
    known: NDArray[np.int64],
    wanted: NDArray[np.int64],
    progress: Progress | None = None,
) -> Iterator[ItemNeighbors]:
    """Learn by EASE^R (Steck 2019): N = -P / diag(P), P = (A'A + L)^-1, signs kept, A = sqrt(c) D_r^-a W D_i^-y.

    L = lambda I + p / (1 - p) diag(A'A): lambda regularizes, and p is the share of entries that EDLAE (Steck 2020)
    drops while it learns. EASE gives an item no weight for itself; this learner gives it `self_weight` times the weight
    of its strongest neighbour.
    """
    scaled = spectral_rows(rows, params.item_user_exponent, params.target_exponent)
    added = regularization(scaled, params, len(known))
    if len(known) > EASE_ITEMS:
        return decomposed_ease(scaled, added, params, wanted, progress)
    if progress:
        progress("item neighbours, inverting")
    learned = exact_ease(scaled[:, known], added[known])
    step = max(1, BLOCK_PRODUCTS // max(len(known), 1))
    places = np.searchsorted(known, wanted)

    def learn(chosen: NDArray[np.int64]) -> ItemNeighbors:
        part = learned[chosen]
        itself = np.float32(params.self_weight) * np.abs(part).max(axis=1, initial=0)
        found = strongest_of_dense(part, chosen, itself, params.item_neighbors)
        shape = len(chosen), scaled.shape[1]
        return ItemNeighbors(known[chosen], sparse.csr_array((found.data, known[found.indices], found.indptr), shape))

    return in_threads(learn, (places[start : start + step] for start in range(0, len(places), step)), THREADS)


def exact_ease(scaled: sparse.csr_array, added: Float64) -> Float32:
    """Return -P / diag(P) without its diagonal and without noise, (items, items), dense."""
    learned = inverted(regularized_gram(scaled, added))
    step = 1 + BLOCK_PRODUCTS // max(len(learned), 1)
    learned /= -np.diag(learned)
    np.fill_diagonal(learned, 0)
    smallest = NOISE * max(learned.max(initial=0), -learned.min(initial=0))
    for start in range(0, len(learned), step):
        part = learned[start : start + step]
        part[np.abs(part) < smallest] = 0
    return learned


def inverted(gram: Float32) -> Float32:
    """Return the inverse of a symmetric positive definite matrix, which may be overwritten.

    By Cholesky's decomposition, in half the time of a general inverse; by the latter if rounding errors make the matrix
    indefinite.
    """
    if not len(gram):
        return gram
    factor, failed = scipy.linalg.lapack.spotrf(gram.T, lower=1)
    if not failed:
        half, failed = scipy.linalg.lapack.spotri(factor, lower=1, overwrite_c=1)
    if failed:
        found: Float32 = scipy.linalg.inv(gram, overwrite_a=True, check_finite=False)
        return found
    # The inverse is in the lower triangle of an array in Fortran's order; its transpose is in that of C.
    half = half.T
    step = 1 + BLOCK_PRODUCTS // len(half)
    for start in range(0, len(half), step):
        stop = start + step
        square = np.triu(half[start:stop, start:stop])
        half[start:stop, start:stop] = square + np.triu(square, 1).T
        half[stop:, start:stop] = half[start:stop, stop:].T
    learned: Float32 = half
    return learned


def decomposed_ease(
    scaled: sparse.csr_array,
    added: Float64,
    params: Params,
    wanted: NDArray[np.int64],
    progress: Progress | None = None,
) -> Iterator[ItemNeighbors]:
    """Learn by EASE from the largest `spectral_rank` eigenvalues.

    With R = A L^-1/2 and R'R = V diag(l) V', P is L^-1/2 (I - B) L^-1/2, B = V diag(l / (l + 1)) V'. Of the other
    eigenvalues, which are small, each counts as if the denominator were 1 and half of the smallest that is known.
    """
    by_item = inverse_power(added, 0.5)
    scaled = scale(scaled, np.ones(scaled.shape[0], dtype=np.float32), by_item)
    vectors, singular = singular_vectors(scaled, params.spectral_rank, progress=progress)
    eigenvalues = singular**2
    rest = np.float32(1 / (1 + eigenvalues.min(initial=np.inf) / 2)) if len(eigenvalues) else np.float32(1)
    response = (eigenvalues / (eigenvalues + 1) - rest * eigenvalues).astype(np.float32)
    squares = np.bincount(scaled.indices, scaled.data.astype(np.float64) ** 2, minlength=scaled.shape[1])
    predicted = rest * squares + (vectors.astype(np.float64) ** 2) @ response
    by_target = (1 / (by_item * np.maximum(1 - predicted, 1e-3))).astype(np.float32)
    pairs = Pairs(
        scale(scaled, np.full(scaled.shape[0], rest, dtype=np.float32), by_item).T.tocsr(),
        scale(scaled, np.ones(scaled.shape[0], dtype=np.float32), by_target),
        left=vectors * response * by_item[:, None],
        right=vectors * by_target[:, None],
        parts=connected_items(scaled),
    )

    def learn(chosen: NDArray[np.int64]) -> ItemNeighbors:
        found = pairs.everywhere(chosen, pairs.together(chosen))
        found[np.arange(len(chosen)), chosen] = 0
        itself = np.float32(params.self_weight) * np.abs(found).max(axis=1, initial=0)
        return ItemNeighbors(chosen, strongest_of_dense(found, chosen, itself, params.item_neighbors))

    return in_threads(learn, pairs.blocks(wanted, dense=True), THREADS)
