"""The tables of a model version: created beside the partitions that serve, filled, indexed, and attached."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql
from scipy import sparse

from recdb.arrays.copy import copy_blocks_in, copy_in
from recdb.arrays.settings import Settings
from recdb.arrays.weighted import read_profiles
from recdb.citus import is_distributed, spread_partition
from recdb.database import fetch_row
from recdb.learn import Basis, ItemNeighbors, Params, fold_in
from recdb.learn.limits import limit_sums
from recdb.learn.matrix import Float32, power, with_data
from recdb.progress import Report

LEARNED_TABLES = ("user_vector", "item_vector", "item_neighbor")
USER_BLOCK = 50_000
USER_VECTOR_FILL = 70
"""The fillfactor of user_vector: a changed row that stays on its page does not touch the HNSW index."""


@dataclass(frozen=True)
class Limits:
    """The most that one user counts for in a model version: see recdb/learn/limits.py."""

    pair: float
    """The largest weight of a user for an item."""
    neighbor: float
    """The largest sum of the weights that a user gives as a neighbour."""


def create_partitions(connection: psycopg.Connection, model_id: int) -> None:
    """Create a version's tables, beside the partitions that serve."""
    for table in LEARNED_TABLES:
        connection.execute(
            sql.SQL(
                "create table recdb.{child} (like recdb.{table} including defaults including constraints "
                "including storage, check (model_id = {model_id}))"
            ).format(
                child=sql.Identifier(f"{table}_{model_id}"),
                table=sql.Identifier(table),
                model_id=sql.Literal(model_id),
            )
        )
        connection.execute(f"select recdb.revoke_grants('recdb.{table}_{model_id}'::regclass)")
    # A high toast_tuple_target keeps long arrays in their rows: reading a row costs one page, and no decompression.
    # A refresh changes user_vector, and VACUUM's truncation makes the readers of a standby wait.
    changing = f"fillfactor = {USER_VECTOR_FILL}, vacuum_truncate = off, "
    for table, settings in (("user_vector", changing), ("item_neighbor", "")):
        connection.execute(f"alter table recdb.{table}_{model_id} set ({settings}toast_tuple_target = 8160)")
    # Before the rows: an attachment would spread the table too, but copy and index its rows a second time.
    if is_distributed(connection, "user_vector"):
        spread_partition(connection, f"user_vector_{model_id}")


def write_item_vectors(connection: psycopg.Connection, model_id: int, item_vectors: Float32, width: int) -> None:
    """Write the item vectors; an item that the basis does not reach gets none."""
    keys = np.flatnonzero(np.abs(item_vectors).max(axis=1, initial=0) > 6e-5).astype(np.int32)
    copy_in(
        connection,
        f"recdb.item_vector_{model_id}",
        ["model_id", "item_key", "embedding"],
        [np.full(len(keys), model_id, dtype=np.int32), keys, pad(item_vectors[keys], width)],
    )


def write_item_neighbors(connection: psycopg.Connection, model_id: int, learned: Iterator[ItemNeighbors]) -> None:
    """Write the item neighbors, one transaction for each block; neighbors without a weight are not stored."""

    def columns(block: ItemNeighbors) -> Iterator[list[NDArray[Any]]]:
        for rows, keys, weights in by_length(block.weights, np.arange(len(block.items))):
            model = np.full(len(rows), model_id, dtype=np.int32)
            totals = magnitude(weights) if block.totals is None else block.totals[rows].astype(np.float32)
            yield [model, block.items[rows].astype(np.int32), keys, weights, totals]

    for block in learned:
        copy_blocks_in(
            connection,
            f"recdb.item_neighbor_{model_id}",
            ["model_id", "item_key", "neighbor_keys", "weights", "total_weight"],
            columns(block),
        )


def write_user_vectors(
    connection: psycopg.Connection,
    model_id: int,
    basis: Basis,
    params: Params,
    limits: Limits,
    settings: Settings,
    report: Report,
) -> None:
    """Fold in every user, and write the vectors and the neighbor weights, a block of users at a time."""
    last_user, last_item = fetch_row(
        connection,
        "select (select coalesce(max(u.user_key), 0) from recdb.user_key u), "
        "(select coalesce(max(t.item_key), 0) from recdb.item_key t)",
    )
    users, items = last_user + 1, last_item + 1
    limit = min(params.profile_limit, settings.profile_limit)
    # SQL folds in the stored half-precision vectors, so we do the same. Items unknown to the basis have a zero vector.
    stored = np.zeros((items, basis.item_vectors.shape[1]), dtype=np.float32)
    stored[: len(basis.item_vectors)] = basis.item_vectors.astype(np.float16)

    def columns(block: range) -> Iterator[list[NDArray[Any]]]:
        profiles = read_profiles(connection, block, limit=limit, items=items)
        vectors, solid = fold_in(power(profiles, params.people_weight_exponent), stored)
        limited = with_data(profiles, np.clip(profiles.data, -limits.pair, limits.pair))
        neighbor_weights = limit_sums(power(limited, params.neighbor_weight_exponent), limits.neighbor)
        for rows, item_keys, weights in by_length(neighbor_weights, np.flatnonzero(solid)):
            model, keys = np.full(len(rows), model_id, dtype=np.int32), (rows + block.start).astype(np.int32)
            yield [model, keys, pad(vectors[rows], settings.dimension), item_keys, weights, magnitude(weights)]

    for start in range(0, users, USER_BLOCK):
        report(f"user vectors, {start:,} of {users:,}")
        block = list(columns(range(start, min(start + USER_BLOCK, users))))
        copy_blocks_in(
            connection,
            f"recdb.user_vector_{model_id}",
            ["model_id", "user_key", "embedding", "item_keys", "weights", "total_weight"],
            block,
        )


def attach_partitions(connection: psycopg.Connection, model_id: int) -> None:
    """Attach a version's tables as partitions, so that readers see them."""
    connection.execute("set local lock_timeout = '60s'")
    for table in LEARNED_TABLES:
        connection.execute(
            sql.SQL("alter table recdb.{} attach partition recdb.{} for values in ({})").format(
                sql.Identifier(table), sql.Identifier(f"{table}_{model_id}"), sql.Literal(model_id)
            )
        )


def pad(vectors: Float32, width: int) -> NDArray[np.float16]:
    """Return vectors (rows, d) in half precision, padded with zeros to `width`."""
    padded = np.zeros((len(vectors), width), dtype=np.float16)
    padded[:, : vectors.shape[1]] = vectors
    return padded


def by_length(matrix: sparse.csr_array, rows: NDArray[np.integer]) -> Iterator[tuple[NDArray[np.integer], Any, Any]]:
    """Group rows of a sparse matrix by length: yield the rows, their columns and their data, each (rows, length).

    Empty rows are left out.
    """
    starts, lengths = matrix.indptr[rows], np.diff(matrix.indptr)[rows]
    for length in np.unique(lengths[lengths > 0]):
        chosen = np.flatnonzero(lengths == length)
        entries = starts[chosen, None] + np.arange(length)
        yield rows[chosen], matrix.indices[entries].astype(np.int32), matrix.data[entries]


def magnitude(weights: Float32) -> Float32:
    """Return the sum of the absolute values of each row."""
    sums: Float32 = np.abs(weights).sum(axis=1, dtype=np.float64).astype(np.float32)
    return sums
