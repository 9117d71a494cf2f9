"""Spreading recdb over the nodes of a Citus cluster, in place, and bringing it back: `recdb distribute`."""

from recdb.spread.back import undo
from recdb.spread.forward import distribute

__all__ = ["distribute", "undo"]
