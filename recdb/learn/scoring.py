"""The numpy twin of what SQL serves: the same formulas as `sql/30_rank.sql`, for many users at once.

Each half of the ranking asks sources (the nearest users; the profile's items) for what they give (what they like; what
they recommend): scores are sparse (users, sources) times (sources, items). Neighbours are exact here, where SQL asks
an HNSW index.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recdb.learn.matrix import Float32, Float64, inverse_power, scale
from recdb.learn.nearest import largest

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
        users[start : start + step], cosines = largest(cosines, n)
        similarities[start : start + step] = np.where(cosines > NOISE_COSINE, cosines, 0)
    return Neighborhood(users, similarities)


def voices(
    near: Neighborhood, sums: Float64, n: int, similarity_exponent: float, activity_exponent: float
) -> sparse.csr_array:
    """Return how much each of the `n` nearest users counts: similarity^q d_v^-g, (users, stored users).

    `sums` (stored users,) is d: the row sums of what the neighbours like.
    """
    users, cosines = near.users[:, :n], near.similarities[:, :n]
    strength = np.where(cosines > 0, cosines**similarity_exponent, 0) * inverse_power(sums, activity_exponent)[users]
    starts = np.arange(0, users.size + 1, users.shape[1])
    # A copy of the users, since what sorts a matrix sorts its arrays.
    return sparse.csr_array(
        (strength.ravel().astype(np.float32), users.flatten(), starts), shape=(len(users), len(sums))
    )


def shares(asked: sparse.csr_array, sums: Float64) -> sparse.csr_array:
    """Divide what each row asks its sources by the magnitude of all they give it; where that is 0, nothing is asked.

    `asked` is (users, sources): voices, or profiles; `sums` (sources,) the sources' row sums of magnitudes.
    """
    magnitudes = sparse.csr_array((np.abs(asked.data), asked.indices, asked.indptr), shape=asked.shape)
    return scale(asked, inverse_power(magnitudes @ sums, 1.0), np.ones(asked.shape[1], dtype=np.float32))


def ranks_of(
    scores: sparse.csr_array, hidden: sparse.csr_array, rows: NDArray[np.integer], items: NDArray[np.integer]
) -> Float64:
    """Return the rank (from 1) of each (row, item) among its row's positive scores, hidden items left out.

    `rows` ascend. Infinite where the item has no positive score. Ties go to the smaller item number.
    """
    ranks = np.full(len(rows), np.inf)
    whole = np.zeros(scores.shape[1], dtype=np.float32)
    bounds = np.searchsorted(rows, np.arange(scores.shape[0] + 1))
    for row, (start, stop) in enumerate(pairwise(bounds)):
        stored = slice(scores.indptr[row], scores.indptr[row + 1])
        columns = scores.indices[stored]
        whole[columns] = scores.data[stored]
        whole[hidden.indices[hidden.indptr[row] : hidden.indptr[row + 1]]] = 0
        wanted, visible = items[start:stop, None], whole[columns]
        aims = whole[wanted]
        before = (visible > aims) | ((visible == aims) & (columns < wanted))
        ranks[start:stop] = np.where(aims[:, 0] > 0, 1 + np.count_nonzero(before, axis=1), np.inf)
        whole[columns] = 0
    return ranks
