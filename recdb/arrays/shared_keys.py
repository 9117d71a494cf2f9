"""The items of another database: their keys there, and their keys here."""

from collections.abc import Sequence

import numpy as np
import psycopg
from numpy.typing import NDArray

from recdb.progress import Report

BLOCK = 50_000


def share_keys(
    other: psycopg.Connection, connection: psycopg.Connection, query: str, report: Report
) -> NDArray[np.int32]:
    """Return the key here for each key of another database, 0 for keys without an item; items without one get it.

    `query` gives item_key and item_id there; `other` is in a transaction, and `connection` in autocommit. A few ten
    thousand ids are in memory at a time.
    """
    parts: list[tuple[NDArray[np.int32], NDArray[np.int32]]] = []
    with other.cursor(name="items") as cursor:
        cursor.execute(query)
        while rows := cursor.fetchmany(BLOCK):
            report(f"items of the other database, {len(parts) * BLOCK:,}")
            theirs = np.array([key for key, _ in rows], dtype=np.int32)
            parts.append((theirs, find_keys(connection, [item for _, item in rows])))
    shared = np.zeros(max((int(theirs.max()) for theirs, _ in parts), default=0) + 1, dtype=np.int32)
    for theirs, ours in parts:
        shared[theirs] = ours
    return shared


def find_keys(connection: psycopg.Connection, items: Sequence[str]) -> NDArray[np.int32]:
    """Return the keys of items, in their order; an item without a key gets one."""
    connection.execute(
        "insert into recdb.item_key (item_id) select n.item_id from unnest(%s::text[]) n(item_id) "
        "where not exists (select from recdb.item_key t where t.item_id = n.item_id) "
        "order by n.item_id on conflict (item_id) do nothing",
        [items],
    )
    rows = connection.execute(
        "select n.place::integer, t.item_key from unnest(%s::text[]) with ordinality n(item_id, place) "
        "join recdb.item_key t on t.item_id = n.item_id",
        [items],
    ).fetchall()
    keys = np.zeros(len(items), dtype=np.int32)
    for place, key in rows:
        keys[place - 1] = key
    return keys


def translate_keys(keys: NDArray[np.int32], shared: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the keys here for keys of another database; 0 for those without an item."""
    inside = (keys > 0) & (keys < len(shared))
    found: NDArray[np.int32] = np.where(inside, shared[np.where(inside, keys, 0)], 0).astype(np.int32)
    return found
