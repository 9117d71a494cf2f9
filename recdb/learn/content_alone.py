"""How much a token says of an item that has little else.

The regression of recdb/learn/content.py gives each token its part beside all others of an item. Of an item whose tokens
are few, one that stands alone says more: that the item is like the others that have it.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recdb.learn.content_features import Features, fit_alone, units
from recdb.learn.content_size import quality
from recdb.learn.matrix import Float32

ALONE = (0.1, 0.0)
"""Shares of the regression on each token alone to try; a later one has to be better."""
FEW_TOKENS = 2
"""Items that come later have their tokens as those held out do, or only so many of them."""


def share_alone(
    features: Features,
    map_: Float32,
    vectors: Float32,
    counted: NDArray[np.bool_],
    held: NDArray[np.integer],
    profile: sparse.csr_array,
    relevant: NDArray[np.bool_],
    generator: np.random.Generator,
) -> float:
    """Return the share of the regression on each token alone with which items that are held out rank best.

    The ranking is that of their vectors (items, width) by users' profiles (users, items), once with all of their tokens
    and once with few tokens in every second item, drawn at random.
    """
    sources = np.flatnonzero(counted)
    alone = fit_alone(features, vectors, counted)
    whole = features.of(held)
    parts = (whole, replace(whole, tokens=thinned(whole.tokens, generator)))

    def reached(share: float) -> float:
        found = [units(part.times(map_ + np.float32(share) * alone)) for part in parts]
        scores = [profile[:, sources] @ np.maximum(units(vectors[sources]) @ each.T, 0) for each in found]
        return sum(quality(each.astype(np.float32), relevant) for each in scores)

    best, chosen = reached(ALONE[0]), ALONE[0]
    for share in ALONE[1:]:
        if reached(share) > best * 1.002:
            best, chosen = reached(share), share
    return chosen


def thinned(tokens: sparse.csr_array, generator: np.random.Generator) -> sparse.csr_array:
    """Keep FEW_TOKENS of every second row, in rows of length 1."""
    rows = np.repeat(np.arange(tokens.shape[0]), np.diff(tokens.indptr))
    order = np.lexsort((generator.random(tokens.nnz), rows))
    place = np.empty(tokens.nnz, dtype=np.int64)
    place[order] = np.arange(tokens.nnz) - tokens.indptr[rows[order]]
    kept = (place < FEW_TOKENS) | (rows % 2 == 0)
    data = np.where(kept, tokens.data, 0)
    found = sparse.csr_array((data, tokens.indices, tokens.indptr), shape=tokens.shape)
    lengths = np.sqrt(np.asarray(found.power(2).sum(axis=1)).ravel())
    found.data = np.divide(found.data, lengths[rows], out=np.zeros_like(found.data), where=lengths[rows] > 0)
    return found
