"""A model version's tables: created beside the partitions that serve, filled, indexed, and attached."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql
from scipy import sparse

from recdb.arrays.copy import copy_blocks_in, copy_in
from recdb.arrays.settings import Settings
from recdb.arrays.weighted import read_profiles
from recdb.learn import Basis, ItemNeighbors, Params, fold_in
from recdb.learn.matrix import Float32, power
from recdb.progress import Report

LEARNED_TABLES = ("user_vector", "item_vector", "item_neighbor")
USER_BLOCK = 50_000
INDEX_OPTIONS = "m = 12, ef_construction = 128"
"""The HNSW index: how many neighbours a vector keeps, how widely its place is looked for (pgvector: 16, 64).

Users may come in tight groups, and with 64 one search in five ends in a wrong one. With 12 a new entry, of which each
refresh makes some, costs a fifth less than with 16 and a build a quarter; searches make up for it by looking at a
quarter more candidates than are wanted."""


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
    # Whole rows on their pages, however long their arrays: who is found costs one page, and nothing is unpacked.
    # And room for what changes: a row that stays on its page leaves the HNSW index alone.
    for table, settings in (("user_vector", "fillfactor = 70, "), ("item_neighbor", "")):
        connection.execute(f"alter table recdb.{table}_{model_id} set ({settings}toast_tuple_target = 8160)")


def write_item_vectors(connection: psycopg.Connection, model_id: int, item_vectors: Float32, width: int) -> None:
    """Write the items' vectors; items that the basis does not reach have none."""
    keys = np.flatnonzero(np.abs(item_vectors).max(axis=1, initial=0) > 6e-5).astype(np.int32)
    copy_in(
        connection,
        f"recdb.item_vector_{model_id}",
        ["model_id", "item_key", "embedding"],
        [np.full(len(keys), model_id, dtype=np.int32), keys, pad(item_vectors[keys], width)],
    )


def write_item_neighbors(connection: psycopg.Connection, model_id: int, learned: Iterator[ItemNeighbors]) -> None:
    """Write what each item recommends, a transaction a block; what has no weight is not stored."""

    def columns(block: ItemNeighbors) -> Iterator[list[NDArray[Any]]]:
        for rows, keys, weights in by_length(block.weights, np.arange(len(block.items))):
            model = np.full(len(rows), model_id, dtype=np.int32)
            yield [model, block.items[rows].astype(np.int32), keys, weights, magnitude(weights)]

    for block in learned:
        copy_blocks_in(
            connection,
            f"recdb.item_neighbor_{model_id}",
            ["model_id", "item_key", "neighbor_keys", "weights", "total_weight"],
            columns(block),
        )


def write_user_vectors(
    connection: psycopg.Connection, model_id: int, basis: Basis, params: Params, settings: Settings, report: Report
) -> None:
    """Fold every user in by what they are scored with, and write vectors and that, a block of users at a time."""
    row = connection.execute(
        "select (select max(u.user_key) from recdb.user_key u), (select max(t.item_key) from recdb.item_key t)"
    ).fetchone()
    assert row is not None
    users, items = row[0] + 1, row[1] + 1
    limit = min(params.profile_limit, settings.profile_limit)
    # What SQL folds in is in half precision; so is what is stored. Items that the basis does not know are nowhere.
    stored = np.zeros((items, basis.item_vectors.shape[1]), dtype=np.float32)
    stored[: len(basis.item_vectors)] = basis.item_vectors.astype(np.float16)

    def columns(block: range) -> Iterator[list[NDArray[Any]]]:
        profiles = read_profiles(connection, block, limit=limit, items=items)
        vectors, solid = fold_in(power(profiles, params.people_weight_exponent), stored)
        liking = power(profiles, params.neighbor_weight_exponent)
        for rows, item_keys, weights in by_length(liking, np.flatnonzero(solid)):
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


def index(connection: psycopg.Connection, model_id: int, report: Report) -> None:
    """Add the primary keys and the HNSW indexes to a version's tables, and analyse them."""
    for name, key in (
        ("item_vector", "item_key"),
        ("item_neighbor", "item_key"),
        ("user_vector", "user_key"),
    ):
        report(f"indexing {name}")
        table = sql.Identifier(f"{name}_{model_id}")
        with connection.transaction():
            connection.execute(
                "select set_config('maintenance_work_mem', greatest(pg_size_bytes(current_setting("
                "'maintenance_work_mem')), pg_size_bytes('1GB')) / 1024 || 'kB', true)"
            )
            connection.execute("set local max_parallel_maintenance_workers = 2")
            connection.execute(
                sql.SQL("alter table recdb.{} add primary key (model_id, {})").format(table, sql.Identifier(key))
            )
            if name != "item_neighbor":
                schema = connection.execute(
                    "select n.nspname from pg_extension e join pg_namespace n on n.oid = e.extnamespace "
                    "where e.extname = 'vector'"
                ).fetchone()
                assert schema is not None
                connection.execute(
                    sql.SQL("create index on recdb.{} using hnsw (embedding {}.halfvec_cosine_ops) with ({})").format(
                        table, sql.Identifier(schema[0]), sql.SQL(INDEX_OPTIONS)
                    )
                )
        connection.execute(sql.SQL("analyze recdb.{}").format(table))


def attach_partitions(connection: psycopg.Connection, model_id: int) -> None:
    """Attach a trained version's tables, so that readers can name them."""
    connection.execute("set local lock_timeout = '60s'")
    for table in LEARNED_TABLES:
        connection.execute(
            sql.SQL("alter table recdb.{} attach partition recdb.{} for values in ({})").format(
                sql.Identifier(table), sql.Identifier(f"{table}_{model_id}"), sql.Literal(model_id)
            )
        )


def pad(vectors: Float32, width: int) -> NDArray[np.float16]:
    """Return vectors (rows, d) in half precision, filled up with zeros to `width`."""
    padded = np.zeros((len(vectors), width), dtype=np.float16)
    padded[:, : vectors.shape[1]] = vectors
    return padded


def by_length(matrix: sparse.csr_array, rows: NDArray[np.integer]) -> Iterator[tuple[NDArray[np.integer], Any, Any]]:
    """Cut rows of a sparse matrix into blocks of one length: the rows, their columns and their data, (rows, length).

    Empty rows are in no block.
    """
    starts, lengths = matrix.indptr[rows], np.diff(matrix.indptr)[rows]
    for length in np.unique(lengths[lengths > 0]):
        chosen = np.flatnonzero(lengths == length)
        entries = starts[chosen, None] + np.arange(length)
        yield rows[chosen], matrix.indices[entries].astype(np.int32), matrix.data[entries]


def magnitude(weights: Float32) -> Float32:
    """Return the sum of magnitudes of each row."""
    sums: Float32 = np.abs(weights).sum(axis=1, dtype=np.float64).astype(np.float32)
    return sums
