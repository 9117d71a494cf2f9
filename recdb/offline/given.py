"""The offline evaluator with a given item model: it ranks a validation part and learns nothing about items from it."""

from dataclasses import replace

import numpy as np
from scipy import sparse

from recdb.learn.basis import Basis
from recdb.learn.events import Events
from recdb.learn.matrix import Float32, Float64
from recdb.learn.params import Params
from recdb.offline.evaluator import OfflineEvaluator
from recdb.offline.learned import Learned
from recdb.offline.validation import ValidationUsers


class GivenItems(OfflineEvaluator):
    """Ranks a validation part with item vectors and item neighbours that were learned elsewhere.

    All are by item key, (items, ...). The users are placed and neighbours are found from the events that are not held
    out.
    """

    def __init__(
        self, events: Events, ceiling: int, vectors: Float32, neighbors: sparse.csr_array, totals: Float64
    ) -> None:
        size = max(events.shape[1], len(vectors))
        super().__init__(replace(events, shape=(events.shape[0], size)), ceiling)
        grown = np.zeros((size, vectors.shape[1]), dtype=np.float32)
        grown[: len(vectors)] = vectors
        self._given = Basis(grown, grown[:0])
        starts = np.r_[neighbors.indptr, np.full(size - len(totals), neighbors.indptr[-1])]
        weights = sparse.csr_array((neighbors.data, neighbors.indices, starts), shape=(size, size))
        sums = np.zeros(size)
        sums[: len(totals)] = totals
        self._given_neighbors = Learned(weights, sums, np.diff(starts).astype(np.float64))

    def _basis(self, params: Params) -> Basis:
        return self._given

    def _learned(self, params: Params, validation: ValidationUsers) -> Learned:
        return self._given_neighbors
