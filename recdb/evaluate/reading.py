"""Reads the test file, and the items that the baselines may recommend to each user."""

import csv

import numpy as np
import psycopg
from scipy import sparse

from recdb.arrays.snapshot import read_catalogue, read_hidden
from recdb.data.files import malformed, open_text
from recdb.errors import InvalidInput
from recdb.offline.baselines import Eligibility


def read_test(path: str) -> dict[str, set[str]]:
    """Read the relevant items of each user from the columns user_id and item_id of a test file.

    A row whose column value, if the file has one, is 0 or less is a dislike: its item is not relevant by it.
    """
    relevant: dict[str, set[str]] = {}
    with open_text(path) as opened:
        rows = csv.DictReader(opened.stream)
        try:
            names = set(rows.fieldnames or ())
        except csv.Error as error:
            raise InvalidInput(f"{path} is not CSV: {error}") from error
        if not {"user_id", "item_id"} <= names:
            raise InvalidInput(f"{path} has no columns user_id and item_id", "its first line names the columns")
        try:
            for row in rows:
                user, item = row["user_id"], row["item_id"]
                if not user or not item or malformed([user, item], 2):
                    raise InvalidInput(f"line {rows.line_num} of {path} has no user_id and item_id in UTF-8")
                if not is_disliked(row, f"line {rows.line_num} of {path}"):
                    relevant.setdefault(user, set()).add(item)
        except csv.Error as error:
            raise InvalidInput(f"line {rows.line_num} of {path} is not CSV: {error}") from error
    return relevant


def is_disliked(row: dict[str, str], place: str) -> bool:
    """Tell whether the value of a row is 0 or less."""
    try:
        return float(row.get("value") or 1) <= 0
    except ValueError as error:
        raise InvalidInput(f"{place}: the value {row['value']!r} is no number") from error


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
