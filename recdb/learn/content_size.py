"""The size of the scores of untouched items: how many of them reach the first places."""

import numpy as np
from numpy.typing import NDArray

from recdb.learn.matrix import Float32

PLACES = 20
RELEVANCE = 0.4
"""The item at rank r of a user's list is relevant in proportion to r^-RELEVANCE."""
VALIDATED = 0.2
"""A validation part has this share of the items that users choose."""


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


def size_losing(scores: Float32, others: Float32, share: float) -> float:
    """Return the largest factor with which the scores cost the other items no more than a share of their ndcg.

    Shapes as in size_for().
    """
    best = -np.sort(-highest(scores), axis=1)
    others = -np.sort(-others, axis=1)
    users = (others > 0).any(axis=1)
    best, others = best[users], others[users]
    if share <= 0 or not best.any():
        return 0.0
    middle = float(np.median(others[others > 0])) / float(best[best > 0].mean())
    low, high = middle * 1e-4, middle * 1e4
    for _ in range(30):
        size = np.sqrt(low * high)
        low, high = (size, high) if loss(best, others, size) < share else (low, size)
    return float(low)


def loss(best: Float32, others: Float32, size: float) -> float:
    """Return the share of their ndcg that the other items lose to scores of this size.

    `best` and `others` (users, PLACES) are in descending order. A score that stands above an item moves it down by one,
    and out of the list from the last place.
    """
    ranks = np.arange(PLACES)
    discounts = np.r_[1 / np.log2(ranks + 2), np.zeros(PLACES)]
    relevant = (ranks + 1.0) ** -RELEVANCE * (others > 0)
    above = (best[:, None, :] * np.float32(size) > others[:, :, None]).sum(axis=2)
    return 1 - float((relevant * discounts[ranks + above]).sum()) / float((relevant * discounts[:PLACES]).sum())


def best_size(
    scores: Float32,
    relevant: NDArray[np.bool_],
    others: Float32,
    ndcg: float,
    chosen: NDArray[np.floating],
    sizes: NDArray[np.floating],
) -> float:
    """Return the size with the largest ndcg of all items: the hits of the scores less the cost to the others.

    `relevant` is (users, items). `ndcg` is that of the others on a validation part, in which a user has VALIDATED of
    the `chosen` items (users,).
    """
    users = (others > 0).any(axis=1)
    scores, relevant, others = scores[users], relevant[users], -np.sort(-others[users], axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :PLACES]
    best = np.maximum(np.take_along_axis(scores, order, axis=1), 0)
    hits = np.take_along_axis(relevant, order, axis=1) & (best > 0)
    discounts = np.r_[1 / np.log2(np.arange(PLACES) + 2), np.zeros(PLACES)]
    expected = np.clip(np.rint(VALIDATED * chosen[users]), 1, PLACES).astype(np.int64)
    ideal = np.cumsum(discounts)[expected - 1]
    padded = np.pad(best, ((0, 0), (0, PLACES - best.shape[1])))

    def gain(size: float) -> float:
        above = (others[:, None, :] >= best[:, :, None] * np.float32(size)).sum(axis=2)
        found = (hits * discounts[np.arange(best.shape[1]) + above]).sum(axis=1) / ideal
        return VALIDATED * float(found.mean()) - ndcg * loss(padded, others, size)

    return float(max(sizes, key=gain))
