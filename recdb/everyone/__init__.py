"""The lists of all users at once, written into a file."""

from recdb.everyone.steered import Written
from recdb.everyone.write import STDOUT, recommend_all

__all__ = ["STDOUT", "Written", "recommend_all"]
