"""The numpy twin of what SQL serves: the same formulas as `sql/30_rank.sql`, for many users at once.

Scores are sparse (users, items) matrices: only candidates have an entry. Neighbours are exact here, where SQL asks
an HNSW index.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recdb.learn.matrix import Float32, Float64, absolute_sums, inverse_power, row_numbers, scale

BLOCK_BYTES = 128 * 2**20
NOISE_COSINE = 0.001
"""A smaller cosine is the noise of half precision."""


@dataclass(frozen=True)
class Neighborhood:
    """The nearest users of some users, nearest first."""

    users: NDArray[np.int64]
    """(users, n): row numbers of the stored vectors."""
    similarities: Float32
    """(users, n): cosines; 0 where there is no neighbour."""


def profiles(weights: sparse.csr_array, ranks: NDArray[np.int64], recency: float) -> sparse.csr_array:
    """Return the profiles that users ask with: each weight times rank^-recency; `ranks` are those of the entries."""
    data = weights.data * ranks.astype(np.float64) ** -recency
    return sparse.csr_array((data.astype(np.float32), weights.indices, weights.indptr), shape=weights.shape)


def nearest_users(queries: Float32, vectors: Float32, own: NDArray[np.integer], n: int) -> Neighborhood:
    """Find the `n` users with the largest cosine to each query, exactly.

    `queries` (users, d) and `vectors` (stored users, d) are unit vectors, or 0 for none; `own` (users,) is each query's
    own row in `vectors`, which is left out.
    """
    n = min(n, len(vectors))
    users = np.zeros((len(queries), n), dtype=np.int64)
    similarities = np.zeros((len(queries), n), dtype=np.float32)
    step = max(1, BLOCK_BYTES // (4 * len(vectors)))
    for start in range(0, len(queries), step):
        cosines = queries[start : start + step] @ vectors.T
        cosines[np.arange(len(cosines)), own[start : start + step]] = 0
        nearest = np.argpartition(-cosines, n - 1, axis=1)[:, :n]
        found = np.take_along_axis(cosines, nearest, axis=1)
        order = np.argsort(-found, axis=1, kind="stable")
        users[start : start + step] = np.take_along_axis(nearest, order, axis=1)
        cosines = np.take_along_axis(found, order, axis=1)
        similarities[start : start + step] = np.where(cosines > NOISE_COSINE, cosines, 0)
    return Neighborhood(users, similarities)


def people_shares(
    near: Neighborhood, liking: sparse.csr_array, n: int, similarity_exponent: float, activity_exponent: float
) -> sparse.csr_array:
    """Score by what the `n` nearest users like: sum of similarity^q d_v^-g W_vi, as shares, (users, items).

    `liking` is W to the neighbour weight exponent; d are its row sums of magnitudes.
    """
    sums, _ = absolute_sums(liking)
    users, cosines = near.users[:, :n], near.similarities[:, :n]
    damping = inverse_power(sums, activity_exponent)
    strength = np.where(cosines > 0, cosines**similarity_exponent, 0) * damping[users]
    starts = np.arange(0, users.size + 1, users.shape[1])
    voices = sparse.csr_array(
        (strength.ravel().astype(np.float32), users.ravel(), starts), shape=(len(users), liking.shape[0])
    )
    return divide_rows(voices @ liking, voices @ sums)


def item_shares(asked: sparse.csr_array, neighbors: sparse.csr_array) -> sparse.csr_array:
    """Score by what the profile's items recommend: sum over its items j of p_j N_ji, as shares, (users, items)."""
    sums, _ = absolute_sums(neighbors)
    return divide_rows(sparse.csr_array(asked @ neighbors), abs(asked) @ sums)


def divide_rows(scores: sparse.csr_array, totals: Float64) -> sparse.csr_array:
    """Divide each row by its total (rows,), the sum of the magnitudes of all that was added up in it; 0 gives 0."""
    return scale(scores, inverse_power(totals, 1.0), np.ones(scores.shape[1], dtype=np.float32))


def blend(people: sparse.csr_array, items: sparse.csr_array, share: float) -> sparse.csr_array:
    """Blend the halves' shares: `share` of people, the rest of items."""
    return sparse.csr_array(people * np.float32(share) + items * np.float32(1 - share))


def ranks_of(
    scores: sparse.csr_array, hidden: sparse.csr_array, rows: NDArray[np.integer], items: NDArray[np.integer]
) -> Float64:
    """Return the rank (from 1) of each (row, item) among its row's positive scores, hidden items left out.

    Infinite where the item has no positive score. Ties go to the smaller item number.
    """
    visible = sparse.csr_array(scores - scores * (hidden != 0))
    visible.sort_indices()
    width = visible.shape[1]
    codes = row_numbers(visible) * width + visible.indices
    at = np.searchsorted(codes, rows.astype(np.int64) * width + items)
    found = np.zeros(len(rows), dtype=np.float32)
    inside = at < len(codes)
    inside[inside] = codes[at[inside]] == (rows.astype(np.int64) * width + items)[inside]
    found[inside] = visible.data[at[inside]]
    ranks = np.full(len(rows), np.inf)
    for place in np.flatnonzero(found > 0):
        entries = slice(visible.indptr[rows[place]], visible.indptr[rows[place] + 1])
        others, score = visible.data[entries], found[place]
        first = visible.indices[entries] < items[place]
        ranks[place] = 1 + np.count_nonzero((others > score) | ((others == score) & first))
    return ranks
