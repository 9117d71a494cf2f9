"""The links between items and those that nobody or few have touched, as a part of the item neighbours."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recdb.learn.item_neighbors import ItemNeighbors
from recdb.learn.matrix import absolute_sums

MOST_LINKS = 150
"""An item gives a weight to this many untouched items at most."""
LEAST_OF_BEST = 0.05
"""It gives none to an untouched item whose similarity is below this share of that of the most similar one."""
LEAST_SHARE = 0.2
"""However large the blend is, the live links count with this share in a score, as in sql/30_rank.sql."""
LEAST_ITEMS = 0.01
"""With a smaller share of the item-based part, its rows carry no links."""
MOST_LIVE = 100
"""Then an item has this many live links at most."""
BACK = 50
"""An untouched item gives a weight to this many others."""


def link_share(blend: float) -> float:
    """Return the share with which the links in recdb.item_link count in a score."""
    return max(1 - blend, LEAST_SHARE)


def carries_links(blend: float) -> bool:
    """Tell whether the rows of recdb.item_neighbor carry links."""
    return 1 - blend >= LEAST_ITEMS


def both_ways(columns: sparse.csr_array, cold: NDArray[np.integer], size: float) -> sparse.csr_array:
    """Return the links from items to untouched ones and back, (items, items), from the similarities (items, cold)."""
    items = columns.shape[0]
    given = strongest_of_rows(columns, MOST_LINKS, LEAST_OF_BEST)
    back = strongest_of_rows(sparse.csr_array(columns.T), BACK)
    entries = given.tocoo(), back.tocoo()
    rows = np.concatenate([entries[0].row, cold[entries[1].row]])
    places = np.concatenate([cold[entries[0].col], entries[1].col])
    values = np.concatenate([entries[0].data, entries[1].data]) * size
    return sparse.csr_array((values.astype(np.float32), (rows, places)), shape=(items, items))


def one_way(columns: sparse.csr_array, items: NDArray[np.integer], sizes: NDArray[np.floating]) -> sparse.csr_array:
    """Return the links from others to some items, (all items, all items), from the similarities (all items, items)."""
    entries = strongest_of_rows(columns, MOST_LINKS).tocoo()
    others = entries.row != items[entries.col]
    rows, places = entries.row[others], entries.col[others]
    values = (entries.data[others] * sizes[places]).astype(np.float32)
    return sparse.csr_array((values, (rows, items[places])), shape=(columns.shape[0], columns.shape[0]))


def strongest_of_rows(matrix: sparse.csr_array, count: int, least: float = 0) -> sparse.csr_array:
    """Keep the `count` largest entries in each row, and of them those of at least `least` times the largest."""
    kept = np.ones(matrix.nnz, dtype=np.bool_)
    for start, stop in pairwise(matrix.indptr):
        row = matrix.data[start:stop]
        if stop - start > count:
            kept[start + np.argpartition(-row, count)[count:]] = False
        if least and stop > start:
            kept[start:stop] &= row >= least * row.max()
    starts = np.concatenate([[0], np.cumsum(kept)])[matrix.indptr]
    return sparse.csr_array((matrix.data[kept], matrix.indices[kept], starts), shape=matrix.shape)


def with_links(
    learned: list[ItemNeighbors], links: sparse.csr_array, untouched: NDArray[np.integer]
) -> Iterator[ItemNeighbors]:
    """Add the links of untouched items to the item neighbours; the totals of touched items stay as they are."""
    shape = links.shape
    for block in learned:
        weights = block.weights
        width = sparse.csr_array((weights.data, weights.indices, weights.indptr), shape=(weights.shape[0], shape[1]))
        yield ItemNeighbors(block.items, sparse.csr_array(width + links[block.items]), absolute_sums(weights)[0])
    known = np.concatenate([block.items for block in learned]) if learned else np.empty(0, dtype=np.int64)
    others = np.setdiff1d(untouched, known)
    others = others[np.diff(links.indptr)[others] > 0]
    if len(others):
        yield ItemNeighbors(others, links[others])
