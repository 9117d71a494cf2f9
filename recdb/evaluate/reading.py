"""Reads the test file, and the items that the baselines may recommend to each user."""

import csv

import numpy as np
import psycopg
from scipy import sparse

from recdb.arrays.snapshot import read_catalogue, read_hidden
from recdb.data.files import open_text
from recdb.errors import InvalidInput
from recdb.offline.baselines import Eligibility


def read_test(path: str) -> dict[str, set[str]]:
    """Read the relevant items of each user from the columns user_id and item_id of a test file.

    A row whose column value, if the file has one, is 0 or less is a dislike: its item is not relevant by it.
    """
    relevant: dict[str, set[str]] = {}
    with open_text(path) as opened:
        rows = csv.DictReader(opened.stream)
        if not {"user_id", "item_id"} <= set(rows.fieldnames or ()):
            raise InvalidInput(f"{path} has no columns user_id and item_id", "its first line names the columns")
        for number, row in enumerate(rows, 2):
            try:
                disliked = float(row.get("value") or 1) <= 0
            except ValueError as error:
                raise InvalidInput(f"{path}: in row {number} the value {row['value']!r} is no number") from error
            if disliked:
                continue
            relevant.setdefault(row["user_id"], set()).add(row["item_id"])
    return relevant


def read_eligibility(connection: psycopg.Connection, shape: tuple[int, int]) -> Eligibility:
    """Read which items each user may get: not hidden ones, not the user's own, and none that are unavailable.

    `shape` is that of the users x items matrix, whose rows and columns are keys.
    """
    catalogue = read_catalogue(connection)
    owned = np.flatnonzero(catalogue["owners"])
    places = catalogue["owners"][owned], catalogue["items"][owned]
    own = sparse.csr_array((np.ones(len(owned), dtype=bool), places), shape=shape)
    unavailable = catalogue["items"][catalogue["available"] == 0]
    return Eligibility(sparse.csr_array(read_hidden(connection, shape) + own), unavailable)
