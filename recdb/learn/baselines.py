"""What people use instead, exact and in numpy: the yardsticks that `recdb evaluate` prints beside its own figures."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recdb.learn.matrix import Float32, inverse_power, row_numbers, scale

Scorer = Callable[[NDArray[np.integer]], Float32]
"""Takes user numbers (block,), returns scores (block, items); 0 is no score."""

DENSE_BYTES = 256 * 2**20


def unit_rows(matrix: sparse.csr_array) -> sparse.csr_array:
    """Return the matrix with rows of Euclidean length 1."""
    squares = np.bincount(row_numbers(matrix), matrix.data.astype(np.float64) ** 2, minlength=matrix.shape[0])
    return scale(matrix, inverse_power(squares.astype(np.float64), 0.5), np.ones(matrix.shape[1], dtype=np.float32))


def keep_largest(rows: Float32, count: int) -> Float32:
    """Set all but the `count` largest entries of each row to 0."""
    if count < rows.shape[1]:
        smallest = np.partition(rows, -count, axis=1)[:, -count][:, None]
        rows[rows < smallest] = 0
    return rows


def popularity(weights: sparse.csr_array) -> Scorer:
    """Score every item by its number of users."""
    users = np.bincount(weights.indices, minlength=weights.shape[1]).astype(np.float32)
    return lambda block: np.tile(users, (len(block), 1))


def user_knn(weights: sparse.csr_array, neighbors: int = 100) -> Scorer:
    """Score by the items of the `neighbors` most similar users, by exact cosine."""
    unit = unit_rows(weights)
    by_user = unit.T.tocsr()

    def scorer(block: NDArray[np.integer]) -> Float32:
        similar = (unit[block] @ by_user).toarray()
        similar[np.arange(len(block)), block] = 0
        scores: Float32 = (sparse.csr_array(keep_largest(similar, neighbors)) @ weights).toarray()
        return scores

    return scorer


def item_knn(weights: sparse.csr_array, neighbors: int = 100) -> Scorer:
    """Score by the `neighbors` most similar items of each of the user's items, by exact cosine; an item is its own."""
    unit = unit_rows(weights.T.tocsr())
    by_item = unit.T.tocsr()
    items = unit.shape[0]
    step = max(1, DENSE_BYTES // (4 * items))
    kept = [
        sparse.csr_array(keep_largest((unit[start : start + step] @ by_item).toarray(), neighbors))
        for start in range(0, items, step)
    ]
    similar = sparse.vstack(kept, format="csr")

    def scorer(block: NDArray[np.integer]) -> Float32:
        scores: Float32 = (weights[block] @ similar).toarray()
        return scores

    return scorer


def top_lists(
    scorer: Scorer, users: NDArray[np.integer], hidden: sparse.csr_array, k: int
) -> Iterator[NDArray[np.int64]]:
    """Rank every item for each of `users`, hidden ones left out; yield item numbers (block, k), -1 where there is none.

    `hidden` (users, items) is not 0 where an item must not come back. Ties go to the smaller item number.
    """
    items = hidden.shape[1]
    step = max(1, DENSE_BYTES // (4 * items))
    k = min(k, items)
    for start in range(0, len(users), step):
        block = users[start : start + step]
        scores = scorer(block)
        seen = hidden[block]
        scores[row_numbers(seen), seen.indices] = 0
        first = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        first.sort(axis=1)
        best = np.take_along_axis(scores, first, axis=1)
        order = np.argsort(-best, axis=1, kind="stable")
        lists = np.take_along_axis(first, order, axis=1)
        yield np.where(np.take_along_axis(best, order, axis=1) > 0, lists, -1)
