"""Learning and scoring in numpy and scipy; nothing here uses a database."""

from recdb.learn.basis import Basis, fit_basis, fold_in
from recdb.learn.item_neighbors import ItemNeighbors, fit_item_neighbors, to_matrix
from recdb.learn.matrix import Interactions
from recdb.learn.params import Params

__all__ = [
    "Basis",
    "Interactions",
    "ItemNeighbors",
    "Params",
    "fit_basis",
    "fit_item_neighbors",
    "fold_in",
    "to_matrix",
]
