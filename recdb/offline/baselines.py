"""The baselines that `recdb evaluate` prints beside recdb's figures: popularity, and exact user-kNN and item-kNN.

They compute with sparse matrices only: no matrix of users x items or of items x items is ever dense.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recdb.learn.matrix import inverse_power, row_numbers, scale

Numbers = NDArray[np.integer]
TopLists = NDArray[np.int64]
Scorer = Callable[[Numbers], sparse.csr_array]
"""Takes user numbers (block,) and returns sparse scores (block, items)."""

BLOCK_BYTES = 256 * 2**20
ROUNDING = 1e-6
"""Scores whose relative difference is smaller are ties: they are sums in single precision."""
NEIGHBORS = 100


class Eligibility:
    """Tells which items each user may get."""

    def __init__(self, hidden: sparse.csr_array, unavailable: Numbers | Sequence[int] = ()) -> None:
        """Take the items hidden from each user, as stored entries of (users, items), and those that no user may get."""
        self.hidden = hidden
        self.available = np.ones(hidden.shape[1], dtype=np.bool_)
        self.available[np.asarray(unavailable, dtype=np.int64)] = False

    def of(self, user: int, items: Numbers) -> NDArray[np.bool_]:
        """Tell which of some items a user may get, (items,)."""
        hidden = entries(self.hidden, user)[0]
        before = self.available[hidden]
        self.available[hidden] = False
        answer = self.available[items]
        self.available[hidden] = before
        return answer


def popularity(weights: sparse.csr_array, users: Numbers, eligibility: Eligibility, k: int) -> TopLists:
    """Recommend the items with the most users; returns arrays as top_lists() does."""
    counts = np.bincount(weights.indices, minlength=weights.shape[1])
    order = np.argsort(-counts, kind="stable")[: (counts > 0).sum()]
    order = order[eligibility.available[order]]
    lists = np.full((len(users), k), -1, dtype=np.int64)
    for row, user in enumerate(users.tolist()):
        head = order[: k + len(entries(eligibility.hidden, user)[0])]
        kept = head[eligibility.of(user, head)][:k]
        lists[row, : len(kept)] = kept
    return lists


def user_knn(weights: sparse.csr_array, neighbors: int = NEIGHBORS) -> Scorer:
    """Score by the items of the `neighbors` most similar users, by exact cosine."""
    unit = unit_rows(weights)
    by_user = unit.T.tocsr()

    def scorer(users: Numbers) -> sparse.csr_array:
        similar = unit[users] @ by_user
        similar.data[similar.indices == users[row_numbers(similar)]] = 0
        return keep_largest(similar, neighbors) @ weights

    return scorer


def item_knn(weights: sparse.csr_array, neighbors: int = NEIGHBORS) -> Scorer:
    """Score by the `neighbors` most similar items of each of the user's items, itself included, by exact cosine."""
    by_user = unit_rows(weights.T.tocsr()).T.tocsr()
    unit = by_user.T.tocsr()
    blocks = [keep_largest(unit[block] @ by_user, neighbors) for _, block in in_blocks(np.arange(unit.shape[0]), unit)]
    similar = sparse.vstack(blocks, format="csr")
    return lambda users: weights[users] @ similar


def unit_rows(matrix: sparse.csr_array) -> sparse.csr_array:
    """Return the matrix with rows of Euclidean length 1."""
    squares = np.bincount(row_numbers(matrix), matrix.data.astype(np.float64) ** 2, minlength=matrix.shape[0])
    return scale(matrix, inverse_power(squares.astype(np.float64), 0.5), np.ones(matrix.shape[1], dtype=np.float32))


def keep_largest(matrix: sparse.csr_array, count: int) -> sparse.csr_array:
    """Keep the `count` largest entries above 0 of each row, and the entries that tie with the last of them."""
    lowest = np.zeros(matrix.shape[0], dtype=matrix.dtype)
    for row in np.flatnonzero(np.diff(matrix.indptr) > count).tolist():
        lowest[row] = np.partition(entries(matrix, row)[1], -count)[-count] * (1 - ROUNDING)
    rows = row_numbers(matrix)
    kept = (matrix.data >= lowest[rows]) & (matrix.data > 0)
    lengths = np.bincount(rows[kept], minlength=matrix.shape[0])
    return sparse.csr_array((matrix.data[kept], matrix.indices[kept], np.r_[0, np.cumsum(lengths)]), shape=matrix.shape)


def top_lists(scorer: Scorer, users: Numbers, eligibility: Eligibility, k: int) -> TopLists:
    """Rank the items that score above 0 for each of `users`.

    Returns item numbers (users, k), -1 after the end of a shorter list. On ties the smaller item number comes first.
    """
    lists = np.full((len(users), k), -1, dtype=np.int64)
    for start, block in in_blocks(users, eligibility.hidden):
        scores = scorer(block)
        for row, user in enumerate(block.tolist()):
            items, values = entries(scores, row)
            good = (values > 0) & eligibility.of(user, items)
            items, values = items[good], values[good]
            if len(values) > k:
                best = values >= np.partition(values, -k)[-k]
                items, values = items[best], values[best]
            ranked = items[np.lexsort((items, -values))][:k]
            lists[start + row, : len(ranked)] = ranked
    return lists


def in_blocks(rows: Numbers, matrix: sparse.csr_array) -> Iterator[tuple[int, Numbers]]:
    """Yield the start and the row numbers of blocks whose products fit into memory even if they are dense."""
    step = max(1, BLOCK_BYTES // (8 * max(matrix.shape)))
    for start in range(0, len(rows), step):
        yield start, rows[start : start + step]


def entries(matrix: sparse.csr_array, row: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return the columns and the values that a row stores."""
    stored = slice(matrix.indptr[row], matrix.indptr[row + 1])
    return matrix.indices[stored], matrix.data[stored]
