"""The size of the scores of untouched items: how many of them reach the first places."""

import numpy as np
from numpy.typing import NDArray

from recdb.learn.matrix import Float32

PLACES = 20


def quality(scores: Float32, relevant: NDArray[np.bool_]) -> float:
    """Return the mean ndcg at PLACES over the users who have relevant items."""
    users = np.flatnonzero(relevant.any(axis=1))
    if not len(users):
        return 0.0
    order = np.argsort(-scores[users], axis=1, kind="stable")[:, :PLACES]
    hits = np.take_along_axis(relevant[users], order, axis=1) & (np.take_along_axis(scores[users], order, 1) > 0)
    discounts = 1 / np.log2(np.arange(PLACES) + 2)[: order.shape[1]]
    ideal = np.cumsum(1 / np.log2(np.arange(PLACES) + 2))[np.minimum(relevant[users].sum(axis=1), PLACES) - 1]
    return float(((hits * discounts).sum(axis=1) / ideal).mean())


def highest(scores: Float32) -> Float32:
    """Return the PLACES highest scores of each row, in any order; 0 where there are fewer."""
    if scores.shape[1] <= PLACES:
        return np.pad(scores, ((0, 0), (0, PLACES - scores.shape[1])))
    found: Float32 = -np.partition(-scores, PLACES - 1, axis=1)[:, :PLACES]
    return found


def size_for(scores: Float32, others: Float32, wanted: float) -> float:
    """Return the factor with which `wanted` of the scores are among the first PLACES of their users.

    `scores` (users, items) are those to scale, `others` (users, PLACES) the highest of the other items.
    """
    best = highest(scores)
    users = (others > 0).any(axis=1)
    best, others = best[users], others[users]
    if wanted <= 0 or not best.any():
        return 0.0

    def taken(size: float) -> int:
        both = np.hstack([others, best * np.float32(size)])
        first = np.argpartition(-both, PLACES - 1, axis=1)[:, :PLACES]
        return int(np.count_nonzero((first >= PLACES) & (np.take_along_axis(both, first, axis=1) > 0)))

    middle = float(np.median(others[others > 0])) / float(best[best > 0].mean())
    low, high = middle * 1e-4, middle * 1e4
    for _ in range(30):
        size = np.sqrt(low * high)
        low, high = (size, high) if taken(size) < wanted else (low, size)
    return float(np.sqrt(low * high))
