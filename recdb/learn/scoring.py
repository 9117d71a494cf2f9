"""The ranking of recommend() in numpy, for many users at once: the formulas at the head of `sql/30_rank.sql`.

Both parts of the ranking have the same form: each user has score sources, and each source gives weights to items. The
sources of the user-based part are the nearest users, those of the item-based part are the profile's items. So each part
is a product of sparse matrices, (users, sources) times (sources, items).

Every function takes a precision: the offline evaluator ranks in float32, and `recdb recommend-all` in float64 as SQL
does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recdb.learn.matrix import Float32, Float64, Precision, inverse_power, row_numbers, scale_rows, with_data
from recdb.learn.nearest import largest

BLOCK_BYTES = 128 * 2**20
NOISE_COSINE = 0.001
"""A smaller cosine is the noise of half precision."""


@dataclass(frozen=True)
class Neighborhood:
    """The nearest users of some users, nearest first."""

    users: NDArray[np.integer]
    """(users, n): row numbers of the stored vectors."""
    similarities: Float32
    """(users, n): cosines; 0 where there is no neighbour."""


def profiles(
    weights: sparse.csr_array, ranks: NDArray[np.int64], recency: float, dtype: Precision = np.float32
) -> sparse.csr_array:
    """Return users' profiles, (users, items): each weight times rank^-recency. `ranks` (entries,) are the entries'."""
    return with_data(weights, (weights.data * ranks.astype(np.float64) ** -recency).astype(dtype, copy=False))


def nearest_users(queries: Float32, vectors: Float32, own: NDArray[np.integer], n: int) -> Neighborhood:
    """Find the `n` users with the largest cosine to each query, by comparing it with all vectors.

    `queries` (users, d) and `vectors` (stored users, d) are unit vectors, or 0 for users without one. `own` (users,) is
    the row of each query's user in `vectors`, which is left out; -1 where the user is not among them.
    """
    n = min(n, len(vectors))
    users = np.zeros((len(queries), n), dtype=np.int64)
    similarities = np.zeros((len(queries), n), dtype=np.float32)
    step = max(1, BLOCK_BYTES // (4 * max(1, len(vectors))))
    for start in range(0, len(queries), step):
        cosines = queries[start : start + step] @ vectors.T
        own_rows = own[start : start + step]
        stored = np.flatnonzero(own_rows >= 0)
        cosines[stored, own_rows[stored]] = 0
        users[start : start + step], cosines = largest(cosines, n)
        similarities[start : start + step] = np.where(cosines > NOISE_COSINE, cosines, 0)
    return Neighborhood(users, similarities)


def neighbor_strengths(
    near: Neighborhood,
    sums: Float64,
    n: int,
    similarity_exponent: float,
    activity_exponent: float,
    dtype: Precision = np.float32,
) -> sparse.csr_array:
    """Return how much each of the `n` nearest users counts: similarity^q d_v^-g, (users, stored users).

    `sums` (stored users,) is d: the row sums of the neighbours' weights.
    """
    users = near.users[:, :n]
    cosines: NDArray[Any] = near.similarities[:, :n].astype(dtype)
    strengths = np.where(cosines > 0, cosines**similarity_exponent, 0)
    strengths = strengths * inverse_power(sums[users], activity_exponent, dtype)
    starts = np.arange(0, users.size + 1, users.shape[1])
    # A copy of the users, because scipy may sort a matrix's arrays in place.
    return sparse.csr_array((strengths.ravel().astype(dtype), users.flatten(), starts), shape=(len(users), len(sums)))


def shares(weights: sparse.csr_array, sums: Float64, share: float, dtype: Precision = np.float32) -> sparse.csr_array:
    """Normalise each row's weights by the total absolute score that its sources contribute, and scale it to `share`.

    `weights` (users, sources) are neighbours' strengths or profiles. `sums` (sources,) are the sums of the absolute
    weights that each source gives to items. Where a row's total is 0, the row becomes 0.
    """
    contributed = np.abs(weights.data) * sums[weights.indices]
    totals = np.bincount(row_numbers(weights), contributed, minlength=weights.shape[0]).astype(np.float64)
    scaled = scale_rows(weights, inverse_power(totals, 1.0, dtype))
    scaled.data *= dtype(share)
    return scaled


def ranks_of(
    parts: Sequence[tuple[float, sparse.csr_array]],
    hidden: sparse.csr_array,
    rows: NDArray[np.integer],
    items: NDArray[np.integer],
) -> Float64:
    """Return the rank (from 1) of each (row, item) among its row's positive scores, hidden items left out.

    `parts` are the parts of the ranking, (rows, items), each with the share by which its scores count. `rows` ascend. A
    rank is infinite where the item has no positive score. On ties the smaller item number comes first.
    """
    ranks = np.full(len(rows), np.inf)
    whole = np.zeros(max(matrix.shape[1] for matrix in (hidden, *(scores for _, scores in parts))), dtype=np.float32)
    bounds = np.searchsorted(rows, np.arange(hidden.shape[0] + 1))
    for row, (start, stop) in enumerate(pairwise(bounds)):
        whole[:] = 0
        for share, scores in parts:
            stored = slice(scores.indptr[row], scores.indptr[row + 1])
            whole[scores.indices[stored]] += np.float32(share) * scores.data[stored]
        whole[hidden.indices[hidden.indptr[row] : hidden.indptr[row + 1]]] = 0
        relevant = items[start:stop, None]
        own_scores = whole[relevant]
        positive = own_scores[own_scores > 0]
        if len(positive):
            columns = np.flatnonzero(whole >= positive.min())
            visible = whole[columns]
            before = (visible > own_scores) | ((visible == own_scores) & (columns < relevant))
            ranks[start:stop] = np.where(own_scores[:, 0] > 0, 1 + np.count_nonzero(before, axis=1), np.inf)
    return ranks
