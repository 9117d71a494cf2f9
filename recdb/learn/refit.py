"""EASE's weights solved again for the neighbours that are kept.

EASE solves a ridge regression of each item on all others. Its weights hold together: a large one often makes up for
many small ones. So where each item keeps its strongest neighbours alone, the kept weights are no longer the best ones.
Here the regression of each item is solved again, on the items that still recommend it and on itself. This is SLIM (Ning
and Karypis 2011) with EASE's choice of the variables, in place of one by their L1 norm, and without the constraint that
an item does not predict itself. The item's weight for itself is not used; it takes most from the weights that popular
items are given.
"""

import numpy as np
import scipy.linalg
from scipy import sparse

from recdb.learn.filters import spectral_rows
from recdb.learn.limits import Rows
from recdb.learn.matrix import Float32, Float64, row_numbers
from recdb.learn.parallel import CORES, in_threads
from recdb.learn.params import Params

BLOCK_PRODUCTS = 1 << 22
BLOCK_TARGETS = 64
THREADS = min(4, CORES)
MOST_SOURCES = 1000
"""A regression has so many variables at most, those of the largest weights: its time grows with the cube."""


def regularization(scaled: sparse.csr_array, params: Params, items: int) -> Float64:
    """Return the diagonal of L = lambda I + p / (1 - p) diag(A'A), (items,); `items` is how many are known."""
    squares = np.bincount(scaled.indices, scaled.data.astype(np.float64) ** 2, minlength=scaled.shape[1])
    added = params.ease_regularization * squares.sum() / max(items, 1)
    found: Float64 = (added + params.ease_dropout / (1 - params.ease_dropout) * squares).astype(np.float64)
    return found


def regularized_gram(scaled: sparse.csr_array, added: Float64) -> Float32:
    """Return A'A + L, (items, items), dense."""
    gram = np.empty((scaled.shape[1], scaled.shape[1]), dtype=np.float32)
    transposed, step = scaled.T.tocsr(), 1 + BLOCK_PRODUCTS // max(scaled.shape[1], 1)
    for start in range(0, len(gram), step):
        gram[start : start + step] = (transposed[start : start + step] @ scaled).toarray()
    gram[np.diag_indices_from(gram)] += added.astype(np.float32)
    return gram


def refit(learned: sparse.csr_array, rows: Rows, params: Params) -> sparse.csr_array:
    """Solve the weights of N again, (items, items): the same entries, each item's weight for itself as it was.

    With S the items that recommend item i, and i, the weights are (A'A + L)_SS^-1 (A'A)_Si. Where S is too large, the
    smallest weights are scaled by as much as the regression on all items would scale those of EASE.
    """
    known = np.flatnonzero(rows.item_sums() > 0)
    scaled = spectral_rows(rows, params.item_user_exponent, params.target_exponent)[:, known]
    added = regularization(scaled, params, len(known))
    gram = regularized_gram(scaled, added)
    others = np.flatnonzero(learned.indices != row_numbers(learned))
    by_target = others[np.argsort(learned.indices[others], kind="stable")]
    starts = np.searchsorted(learned.indices[by_target], np.append(known, learned.shape[1]))
    numbers = np.searchsorted(known, row_numbers(learned))
    data = learned.data.copy()

    def solve(targets: range) -> None:
        for target in targets:
            entries = by_target[starts[target] : starts[target + 1]]
            entries = entries[np.argsort(-np.abs(learned.data[entries]), kind="stable")]
            first, rest = entries[:MOST_SOURCES], entries[MOST_SOURCES:]
            within = np.append(numbers[first], target)
            given = gram[within, target]
            given[-1] -= np.float32(added[target])
            _, weights, failed = scipy.linalg.lapack.sposv(gram[within][:, within], given, lower=1, overwrite_a=1)
            if not failed:
                data[first] = weights[:-1]
                data[rest] = learned.data[rest] * (1 - weights[-1])

    blocks = (range(start, min(start + BLOCK_TARGETS, len(known))) for start in range(0, len(known), BLOCK_TARGETS))
    for _ in in_threads(solve, blocks, THREADS):
        pass
    return sparse.csr_array((data, learned.indices, learned.indptr), shape=learned.shape)
