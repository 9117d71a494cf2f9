"""Learning and scoring in numpy and scipy; nothing here knows of a database."""

from recdb.learn.basis import Basis, fit_basis, fold_in
from recdb.learn.item_neighbors import ItemNeighbors, fit_cooccurrence
from recdb.learn.params import Params

__all__ = ["Basis", "ItemNeighbors", "Params", "fit_basis", "fit_cooccurrence", "fold_in"]
