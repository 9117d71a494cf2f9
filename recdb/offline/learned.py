"""Item neighbours for the settings of a search: several settings share one learning."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recdb.learn.filters import Spectrum
from recdb.learn.item_neighbors import fit_item_neighbors, refits, to_matrix
from recdb.learn.limits import Rows
from recdb.learn.matrix import Float32, Float64, absolute_sums, inverse_power, row_numbers, signed_power
from recdb.learn.params import Params
from recdb.learn.recount import recount
from recdb.learn.refit import refit

MOST_KEPT = 400
"""Neighbours are learned at this number, and cut to the numbers of a search."""

FILTER = ("spectral_filter", "spectral_power", "spectral_rank")
"""Hyper-parameters of a spectral filter, without an effect where its weight is 0."""
COOCCURRENCE = ("source_exponent", "cooccurrence_power", "spectral_weight", *FILTER)
"""Hyper-parameters that only the learner 'cooccurrence' reads."""
EASE = ("ease_regularization", "ease_dropout", "ease_refit")
"""Hyper-parameters that only the learner 'ease' reads."""


@dataclass(frozen=True)
class Widest:
    """The neighbours of each item at the largest number that a search asks for."""

    weights: sparse.csr_array
    """N: (items, items). A row has its diagonal first, then its neighbours, the strongest first."""
    places: Float32
    """(entries,): 0 for the diagonal, else the neighbour's place in its row, from 1."""
    item_sums: Float64
    """(items,): d, by which the rows are divided."""


@dataclass(frozen=True)
class Learned:
    """The neighbours of each item, as recommend() reads them."""

    weights: sparse.csr_array
    """N: (items, items), with the diagonal."""
    sums: Float64
    """(items,): the sums of the absolute weights."""
    neighbors: Float64
    """(items,): how many neighbours each item has, itself not counted."""


def widest(rows: Rows, params: Params, spectrum: Spectrum | None, sources: NDArray[np.int64] | None = None) -> Widest:
    """Learn MOST_KEPT neighbours, those of `sources` alone if that is not None. A filter reads the spectrum."""
    blocks = fit_item_neighbors(rows, params, spectrum=spectrum, sources=sources)
    learned = to_matrix(blocks, rows.weights.shape[1])
    lengths = np.diff(learned.indptr)
    numbers = row_numbers(learned)
    within = np.arange(learned.nnz) - learned.indptr[numbers]
    itself = learned.indices == numbers
    # A row of keys for each item that has neighbours: sorting short rows is faster than sorting all entries at once.
    # The bits of positive numbers are in the numbers' order, and a key's lower half keeps the order of equal ones.
    magnitudes = np.where(itself, np.float32(np.inf), np.abs(learned.data)).astype(np.float32, copy=False)
    keys = np.full((np.count_nonzero(lengths), int(lengths.max(initial=0))), 2**64 - 1, dtype=np.uint64)
    descending = (2**32 - 1 - magnitudes.view(np.uint32)).astype(np.uint64)
    keys[(np.cumsum(lengths > 0) - 1)[numbers], within] = (descending << np.uint64(32)) | within.astype(np.uint64)
    keys.sort(axis=1)
    order = (keys & np.uint64(2**32 - 1)).astype(np.int64)
    starts, counts = learned.indptr[:-1][lengths > 0], lengths[lengths > 0]
    entries = (starts[:, None] + order)[np.arange(order.shape[1]) < counts[:, None]]
    weights = sparse.csr_array((learned.data[entries], learned.indices[entries], learned.indptr), shape=learned.shape)
    has_itself = np.bincount(numbers[itself], minlength=len(lengths))
    places = within + 1 - has_itself[numbers]
    return Widest(weights, places.astype(np.int16), rows.item_sums())


def shared(params: Params) -> Params:
    """Return the setting to learn with: one for all settings that prune() can tell apart."""
    idle = {name for name in (*COOCCURRENCE, *EASE, "session_gap") if not learns(params, name)}
    if params.learner == "ease":
        idle.remove("spectral_rank")
    if rescales(params):
        params = replace(params, source_exponent=0.0, cooccurrence_power=1.0)
    defaults = Params()
    plain = {name: getattr(defaults, name) for name in idle | {"ease_refit"}}
    most = max(MOST_KEPT, params.item_neighbors)
    return replace(params, **plain, item_neighbors=most, self_weight=1.0, recount_exponent=0.0)


def learns(params: Params, name: str) -> bool:
    """Tell whether learning reads a hyper-parameter of item neighbours, given the others."""
    if name == "spectral_power" and params.spectral_filter != "chebyshev":
        return False
    if name in FILTER and params.spectral_weight == 0:
        return False
    if name == "session_gap":
        return params.session_weight > 0
    if name in COOCCURRENCE:
        return params.learner == "cooccurrence"
    return name not in EASE or params.learner == "ease"


def filtered(params: Params) -> bool:
    """Tell whether a spectral filter adds to the co-occurrences."""
    return params.learner == "cooccurrence" and params.spectral_weight > 0


def rescales(params: Params) -> bool:
    """Tell whether the source exponent and the power change the neighbours' weights only, and not the choice."""
    return params.learner == "cooccurrence" and params.spectral_weight == 0


def prune(
    wide: Widest, params: Params, self_weight: float, rows: Rows, predicting: NDArray[np.int64] | None = None
) -> Learned:
    """Return the neighbours of a setting; a recount needs the rows, and the users who predict."""
    kept = wide.places <= params.item_neighbors
    starts = np.concatenate([[0], np.cumsum(kept)])[wide.weights.indptr]
    data, places = wide.weights.data[kept], wide.places[kept]
    weights = sparse.csr_array((data, wide.weights.indices[kept], starts), shape=wide.weights.shape)
    if rescales(params):
        numbers = row_numbers(weights)
        by_row = inverse_power(wide.item_sums, params.source_exponent * params.cooccurrence_power)
        weights.data = signed_power(weights.data, params.cooccurrence_power) * by_row[numbers]
    if refits(params, int(np.count_nonzero(wide.item_sums))):
        weights = refit(weights, rows, params)
    weights.data[places == 0] *= np.float32(self_weight)
    if params.recount_exponent:
        weights.data *= recount(weights, rows, params.recount_exponent, predicting)[weights.indices]
    counts = np.diff(starts) - np.bincount(row_numbers(weights)[places == 0], minlength=len(starts) - 1)
    return Learned(weights, absolute_sums(weights)[0], counts.astype(np.float64))
