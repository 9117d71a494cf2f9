"""Degrees counted again after adding the best predicted links.

A model predicts some items far more often than people choose them: those that most profiles lead to. LinkProp-Multi (Fu
et al., WSDM 2022) adds the best predictions to the interactions, counts the items' degrees again, and divides by these.
So such items lose, and the others gain.

Here the weights that all items give to item i are multiplied by ((k_i + 1) / (k_i + 1 + q_i))^g: k_i users have the
item, and q_i more get it among their best predictions, a fifth as many as they have items. Of a large number of users a
sample predicts. One prediction of each item does not count, so that no single user makes an item lose.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recdb.learn.limits import Rows
from recdb.learn.matrix import Float32, Float64
from recdb.learn.parallel import CORES, in_threads

PREDICTED = 0.2
"""A user gets this many predictions for each item that the user has, and at least one."""
MOST_USERS = 2000
"""So many users predict at most."""
BLOCK_USERS = 250
THREADS = min(4, CORES)


def predicting_users(rows: Rows) -> NDArray[np.int64]:
    """Return the users who predict, ascending: those with items, or a sample of them."""
    users = np.flatnonzero(np.diff(rows.of_users().indptr) > 0)
    if len(users) <= MOST_USERS:
        return users
    return np.sort(np.random.default_rng(0).choice(users, MOST_USERS, replace=False))


def predicting_items(rows: Rows) -> NDArray[np.int64]:
    """Return the items of the users who predict, ascending: the count needs the neighbours of these."""
    return np.unique(rows.of_users()[predicting_users(rows)].indices).astype(np.int64)


def recount(
    neighbors: sparse.csr_array, rows: Rows, exponent: float, predicting: NDArray[np.int64] | None = None
) -> Float32:
    """Return the factor for each item's column, (items,); `neighbors` is N, (items, items), `exponent` is g.

    `predicting` are the users who predict; predicting_users() if it is None.
    """
    users = rows.of_users()
    filled = np.count_nonzero(np.diff(users.indptr))
    chosen = predicting_users(rows) if predicting is None else predicting
    blocks = (users[chosen[start : start + BLOCK_USERS]] for start in range(0, len(chosen), BLOCK_USERS))
    counts = np.zeros(neighbors.shape[1])
    for found in in_threads(lambda block: predictions(block, neighbors), blocks, THREADS):
        counts += found
    more = np.maximum(counts - 1, 0) * filled / max(len(chosen), 1)
    have = np.bincount(users.indices, minlength=neighbors.shape[1]) + 1.0
    factors: Float32 = ((have / (have + more)) ** exponent).astype(np.float32)
    return factors


def predictions(users: sparse.csr_array, neighbors: sparse.csr_array) -> Float64:
    """Return how many of the users get each item among their best predictions, (items,)."""
    scores = sparse.csr_array(users @ neighbors)
    counts = np.zeros(neighbors.shape[1])
    own = np.zeros(neighbors.shape[1], dtype=np.bool_)
    for row in range(users.shape[0]):
        mine = users.indices[users.indptr[row] : users.indptr[row + 1]]
        stored = slice(scores.indptr[row], scores.indptr[row + 1])
        items, values = scores.indices[stored], scores.data[stored]
        own[mine] = True
        new = (values > 0) & ~own[items]
        own[mine] = False
        items, values = items[new], values[new]
        count = max(1, round(PREDICTED * len(mine)))
        if count < len(items):
            least = np.partition(values, len(values) - count)[len(values) - count]
            candidates = np.flatnonzero(values >= least)
            items = items[candidates[np.lexsort((items[candidates], -values[candidates]))[:count]]]
        counts[items] += 1
    return counts
