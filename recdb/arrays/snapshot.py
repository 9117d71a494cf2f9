"""Reads all data that ranking for all users needs, in one snapshot, by COPY: a model version and the interactions."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg.rows import dict_row
from scipy import sparse

from recdb.arrays.copy import copy_out
from recdb.arrays.settings import read_settings
from recdb.database import fetch_row
from recdb.errors import RecdbError
from recdb.learn.matrix import Float32, Float64
from recdb.progress import Report, silent

Keys = NDArray[np.int32]


@dataclass(frozen=True)
class Snapshot:
    """A model version and the weighted interactions. Keys are row and column numbers; row and column 0 are empty."""

    served: dict[str, Any]
    """The columns of recdb.serving()."""
    user_ids: list[str]
    item_ids: list[str]
    places: NDArray[np.int64]
    """(items,): each item's place in the database's order of ids."""
    available: NDArray[np.bool_]
    owners: Keys
    """(items,): the owner's user key, 0 for none."""
    weights: sparse.csr_array
    """(users, items): the profiles, each user's entries by position."""
    ranks: NDArray[np.int64]
    """The ranks of the entries of `weights`: 1 is the newest; items with the same timestamp share a rank."""
    hidden: sparse.csr_array
    """(users, items): True where an item must not be recommended again."""
    vector_keys: Keys
    vectors: Float32
    """The stored users' unit vectors, in the order of `vector_keys`."""
    neighbor_weights: sparse.csr_array
    """(users, items): the weights that the stored users contribute as neighbours."""
    user_totals: Float64
    """(users,): user_vector.total_weight, 0 where nothing is stored."""
    item_vectors: Float32
    """(items, width)."""
    item_neighbors: sparse.csr_array
    """(items, items): the weights that each item gives to its neighbours."""
    links: sparse.csr_array
    """(items, items): the weights that items give to items newer than the version, and these to others."""
    item_totals: Float64
    """(items,): item_neighbor.total_weight; of an item newer than the version, the sum of its links."""
    by_content: NDArray[np.bool_]
    """(items,): whether the reason of an item in a list is its content."""


def read_snapshot(connection: psycopg.Connection, report: Report = silent) -> Snapshot:
    """Read the active version and the weighted interactions. Raises RecdbError if no version is active.

    A job that runs meanwhile may retire the version. The locks, which come before the snapshot, keep its partitions.
    """
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    connection.read_only = True
    with connection.transaction():
        connection.execute("lock table recdb.user_vector, recdb.item_vector, recdb.item_neighbor in access share mode")
        served = connection.cursor(row_factory=dict_row).execute("select * from recdb.serving(null)").fetchone()
        if served is None:
            raise RecdbError("no model has been trained yet", "run: recdb refresh")
        if not fetch_row(connection, "select recdb.weights_ready()")[0]:
            raise RecdbError("a restore left the weighted interactions without their rows", "run: recdb refresh")
        report("reading ids")
        user_ids, item_ids = read_ids(connection, "user"), read_ids(connection, "item")
        shape = len(user_ids), len(item_ids)
        catalogue = read_catalogue(connection)
        places, available = np.zeros(shape[1], dtype=np.int64), np.zeros(shape[1], dtype=bool)
        owners = np.zeros(shape[1], dtype=np.int32)
        keys = catalogue["items"]
        places[keys], available[keys], owners[keys] = (catalogue[name] for name in ("places", "available", "owners"))

        report("reading interactions")
        settings, model = read_settings(connection), int(served["model_id"])
        weights, ranks, touched = read_ranked_profiles(connection, shape, served["profile_limit"])
        hidden = read_hidden(connection, shape) if settings.items_return else touched
        report("reading vectors")
        users = copy_out(
            connection,
            f"select user_key, embedding from recdb.user_vector where model_id = {model}",
            [("keys", np.int32)],
            vectors={"vectors": settings.dimension},
        )
        neighbor_weights, user_totals = read_score_sources(connection, "user_vector", "item_keys", model, shape)
        item_vectors = np.zeros((shape[1], settings.dimension), dtype=np.float32)
        basis = copy_out(
            connection,
            f"select item_key, embedding from recdb.item_vector where model_id = {model}",
            [("keys", np.int32)],
            vectors={"vectors": settings.dimension},
        )
        item_vectors[basis["keys"]] = basis["vectors"]
        square = shape[1], shape[1]
        item_neighbors, item_totals = read_score_sources(connection, "item_neighbor", "neighbor_keys", model, square)
        by_content = np.zeros(shape[1], dtype=bool)
        links = sparse.csr_array(square, dtype=np.float32)
        if served["ranks_new_items"]:
            links, totals = read_links(connection, model, square)
            item_totals = item_totals + totals
            by_content[read_by_content(connection, model)] = True
        require_partitions(connection, model, served["label"])
    return Snapshot(
        served, user_ids, item_ids, places, available, owners, weights, ranks, hidden, users["keys"],
        unit(users["vectors"]), neighbor_weights, user_totals, item_vectors, item_neighbors, links,
        item_totals, by_content,
    )  # fmt: skip


def require_partitions(connection: psycopg.Connection, model: int, label: str) -> None:
    """Raise RecdbError if the version lost a partition while it was read: the arrays are not complete."""
    (attached,) = fetch_row(
        connection,
        """
        select count(*) from pg_inherits i join pg_class c on c.oid = i.inhrelid
        where i.inhparent = any (array['recdb.user_vector', 'recdb.item_vector', 'recdb.item_neighbor']::regclass[])
          and c.relname in (
              'user_vector_' || %(model)s::text, 'item_vector_' || %(model)s::text, 'item_neighbor_' || %(model)s::text)
        """,
        {"model": str(model)},
    )
    if attached < 3:
        raise RecdbError(f"{label} was removed while it was read", "run the command again")


def read_ids(connection: psycopg.Connection, name: str) -> list[str]:
    """Read the ids of the users or items; an id stands at its key."""
    rows = connection.execute(f"select {name}_key, {name}_id from recdb.{name}_key order by {name}_key").fetchall()
    ids = [""] * (rows[-1][0] + 1 if rows else 1)
    for key, identifier in rows:
        ids[key] = identifier
    return ids


def read_catalogue(connection: psycopg.Connection) -> dict[str, NDArray[Any]]:
    """Read which items may be recommended, their owners, and their places in the order of ids."""
    return copy_out(
        connection,
        """
        select t.item_key, row_number() over (order by t.item_id),
            (case when i.item_id is not null then i.available
                else not c.listed_only and (p.item_key is not null or recdb.was_touched(t.item_key, t.first_at)) end
                and coalesce(i.published_at <= now(), true))::integer,
            coalesce(u.user_key, 0)
        from recdb.item_key t
        cross join recdb.config c
        left join recdb.read_items() i on i.item_id = t.item_id
        left join recdb.user_key u on u.user_id = i.owner_id
        left join recdb.item_popularity p on p.item_key = t.item_key
        """,
        [("items", np.int32), ("places", np.int64), ("available", np.int32), ("owners", np.int32)],
    )


def read_ranked_profiles(
    connection: psycopg.Connection, shape: tuple[int, int], limit: int
) -> tuple[sparse.csr_array, NDArray[np.int64], sparse.csr_array]:
    """Read the users' profiles.

    Returns W of each user's first `limit` items that have a weight, the ranks of its entries, and all items that each
    user interacted with.
    """
    known = copy_out(
        connection,
        "select user_key, position, item_key, weight, rank from recdb.user_item",
        [
            ("users", np.int32),
            ("positions", np.int32),
            ("items", np.int32),
            ("weights", np.float64),
            ("ranks", np.int32),
        ],
    )
    count = len(known["users"])
    # A sparse matrix sorts its rows in linear time: each entry holds its place in the arrays.
    width = int(known["positions"].max(initial=0)) + 1
    sorting = sparse.csr_array((np.arange(count), (known["users"], known["positions"])), shape=(shape[0], width))
    sorting.sort_indices()
    order, starts = sorting.data, sorting.indptr
    items, ranks, positions = known["items"][order], known["ranks"][order].astype(np.int64), sorting.indices

    touched = sparse.csr_array((np.ones(count, dtype=bool), items, starts), shape=shape)
    scored = (positions <= limit) & (known["weights"][order] != 0)
    kept = np.r_[0, np.cumsum(scored)][starts].astype(starts.dtype)
    weights = sparse.csr_array((known["weights"][order][scored], items[scored], kept), shape=shape)
    return weights, ranks[scored], touched


def read_hidden(connection: psycopg.Connection, shape: tuple[int, int]) -> sparse.csr_array:
    """Read which items are hidden from which users, as a sparse matrix of True, `shape`."""
    pairs = copy_out(
        connection,
        """
        select distinct u.user_key, t.item_key
        from recdb.weighted_interactions i
        join recdb.user_key u on u.user_id = i.user_id
        join recdb.item_key t on t.item_id = i.item_id
        where i.hides
        """,
        [("users", np.int32), ("items", np.int32)],
    )
    ones = np.ones(len(pairs["users"]), dtype=bool)
    return sparse.csr_array((ones, (pairs["users"], pairs["items"])), shape=shape)


def read_score_sources(
    connection: psycopg.Connection, table: str, keys: str, model: int, shape: tuple[int, int]
) -> tuple[sparse.csr_array, Float64]:
    """Read the score sources in user_vector or item_neighbor.

    Returns the weights that they give to items, `shape`, and the sums of their absolute weights, (rows,).
    """
    key = f"{table.partition('_')[0]}_key"
    entries = copy_out(
        connection,
        f"select r.{key}, n.item_key, n.weight from recdb.{table} r "
        f"cross join unnest(r.{keys}, r.weights) n(item_key, weight) where r.model_id = {model}",
        [("rows", np.int32), ("items", np.int32), ("weights", np.float32)],
    )
    totals = copy_out(
        connection,
        f"select {key}, total_weight from recdb.{table} where model_id = {model}",
        [("keys", np.int32), ("totals", np.float32)],
    )
    sums = np.zeros(shape[0])
    sums[totals["keys"]] = totals["totals"]
    return sparse.csr_array((entries["weights"], (entries["rows"], entries["items"])), shape=shape), sums


def read_links(connection: psycopg.Connection, model: int, shape: tuple[int, int]) -> tuple[sparse.csr_array, Float64]:
    """Read the links to and from items newer than the version.

    Returns their weights, `shape`, and for the items that give nothing but links the sums of these, (rows,).
    """
    links = copy_out(
        connection,
        f"select source_key, item_key, weight from recdb.item_link where model_id = {model}",
        [("rows", np.int32), ("items", np.int32), ("weights", np.float32)],
    )
    totals = copy_out(
        connection,
        f"select l.source_key, sum(abs(l.weight)) from recdb.item_link l where l.model_id = {model} and not exists ("
        f"select from recdb.item_neighbor n where n.model_id = {model} and n.item_key = l.source_key) group by 1",
        [("keys", np.int32), ("totals", np.float32)],
    )
    sums = np.zeros(shape[0])
    sums[totals["keys"]] = totals["totals"]
    return sparse.csr_array((links["weights"], (links["rows"], links["items"])), shape=shape), sums


def read_by_content(connection: psycopg.Connection, model: int) -> Keys:
    """Read the keys of the items that recdb.content_items() returns: their reason is content."""
    read = copy_out(
        connection,
        f"select item_key from recdb.new_item where model_id = {model} and users < 2",
        [("items", np.int32)],
    )
    keys: Keys = read["items"]
    return keys


def unit(vectors: NDArray[np.float16]) -> Float32:
    """Return vectors (rows, d) at length 1 in single precision; rows of 0 stay 0."""
    wide: Float32 = vectors.astype(np.float32)
    wide /= np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), np.float32(1e-12))
    return wide
