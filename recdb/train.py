"""Training: read the weighted interactions, learn, write a new model version, and let it serve."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql
from psycopg.types.json import Jsonb
from scipy import sparse

from recdb.copy import copy_blocks_in, copy_in
from recdb.errors import RecdbError
from recdb.learn import Basis, Interactions, ItemNeighbors, Params, fit_basis, fit_item_neighbors, fold_in
from recdb.learn.matrix import Float32, power
from recdb.validation import Figure, clearly_worse, measure
from recdb.versions import LEARNED_TABLES
from recdb.weighted import read_interactions, read_profiles

USER_BLOCK = 50_000
INDEX_OPTIONS = "m = 12, ef_construction = 128"
"""The HNSW index: how many neighbours a vector keeps, how widely its place is looked for (pgvector: 16, 64).

Users may come in tight groups, and with 64 one search in five ends in a wrong one. With 12 a new entry, of which each
refresh makes some, costs a fifth less than with 16 and a build a quarter; searches make up for it by looking at a
quarter more candidates than are wanted."""

Report = Callable[[str], None]
Activation = Literal["always", "unless worse", "never"]
"""When a version that was trained becomes the active one; "unless worse" compares its figure with the active one's."""


@dataclass(frozen=True)
class Version:
    """A version that was trained."""

    label: str
    rejected: str | None = None
    """Why the version before it stays active, where it was found clearly worse."""


def train(
    connection: psycopg.Connection,
    params: Params,
    report: Report,
    metrics: Mapping[str, Any] | None = None,
    *,
    activation: Activation = "always",
) -> Version:
    """Train a version from the weighted interactions; from then on it can be served, and by `activation` it is.

    It measures itself on a validation part first. That figure, the time it took and `metrics` are stored on its row.
    Raises RecdbError where there is nothing to learn from.
    """
    began = time.monotonic()
    width = installed_dimension(connection)
    params = Params.from_json(params.to_json() | {"dimension": min(params.dimension, width)})
    report("reading interactions")
    moment = read_clock(connection)
    known = read_interactions(connection, most=training_interactions(connection))
    if not len(known.users):
        raise nothing_to_learn(connection)
    report("measuring on a validation part")
    figure = measure(connection, params, profile_limit(connection))

    model_id, label = begin_version(connection, known, params)
    basis = learn_basis(known, params, report)
    write_item_vectors(connection, model_id, basis.item_vectors, width)
    write_user_vectors(connection, model_id, basis, params, width, report)
    if not items_return(connection):
        params = replace(params, self_weight=0.0)
    write_item_neighbors(connection, model_id, learn_item_neighbors(known, basis, params, report))
    index(connection, model_id, report)
    seconds = time.monotonic() - began
    stored = {**(metrics or {}), "train_seconds": round(seconds, 2)}
    if figure is not None:
        stored["validation"] = figure.to_json()
    with connection.transaction():
        attach(connection, model_id, stored)
        rejected = compare(connection, label, figure) if activation == "unless worse" else None
        if activation != "never" and rejected is None:
            activate(connection, model_id)
        log(connection, model_id, seconds, rejected)
    catch_up(connection, moment)
    return Version(label, rejected)


def read_clock(connection: psycopg.Connection) -> datetime:
    """Read the server's clock."""
    row = connection.execute("select clock_timestamp()").fetchone()
    assert row is not None
    moment: datetime = row[0]
    return moment


def installed_dimension(connection: psycopg.Connection) -> int:
    """Return the width of the installed vector columns."""
    row = connection.execute(
        "select atttypmod from pg_attribute where attrelid = 'recdb.item_vector'::regclass and attname = 'embedding'"
    ).fetchone()
    assert row is not None
    return int(row[0])


def profile_limit(connection: psycopg.Connection) -> int:
    """Return how many of a user's newest items a version may score with."""
    row = connection.execute("select profile_limit from recdb.config").fetchone()
    assert row is not None
    return int(row[0])


def training_interactions(connection: psycopg.Connection) -> int:
    """Return of how many weighted interactions a version may be learned."""
    row = connection.execute("select training_interactions from recdb.config").fetchone()
    assert row is not None
    return int(row[0])


def items_return(connection: psycopg.Connection) -> bool:
    """Say whether an item that a user touched may be recommended again: whether not every kind hides."""
    row = connection.execute(
        "select not c.default_hides or exists (select from recdb.interaction_kind k where not k.hides) "
        "from recdb.config c"
    ).fetchone()
    return bool(row and row[0])


def nothing_to_learn(connection: psycopg.Connection) -> RecdbError:
    """Say why there is nothing to train on: no interactions, or none with a weight."""
    row = connection.execute("select exists (select from recdb.user_item)").fetchone()
    if row and row[0]:
        return RecdbError("no interactions to learn from: all of them weigh 0", "see the table recdb.interaction_kind")
    return RecdbError("no interactions to learn from", "run: recdb load, recdb attach, or select recdb.track(...)")


def learn_basis(known: Interactions, params: Params, report: Report) -> Basis:
    """Learn the basis that users are placed in."""
    return fit_basis(
        known.matrix(params.people_weight_exponent),
        dimension=params.dimension,
        user_exponent=params.basis_user_exponent,
        item_exponent=params.basis_item_exponent,
        spectrum_exponent=params.spectrum_exponent,
        progress=report,
    )


def learn_item_neighbors(known: Interactions, basis: Basis, params: Params, report: Report) -> Iterator[ItemNeighbors]:
    """Learn what each item recommends, a block of items at a time."""
    weights = known.with_sessions(params.item_weight_exponent, params.session_weight, params.session_gap)
    return fit_item_neighbors(weights, basis.right, params, report)


def begin_version(connection: psycopg.Connection, known: Interactions, params: Params) -> tuple[int, str]:
    """Make a version's row and its tables, beside the partitions that serve; return its id and its label."""
    with connection.transaction():
        row = connection.execute(
            """
            insert into recdb.model (label, params, users, items, interactions, half_life, decay_origin)
            select 'collaborative_filtering_v' || coalesce(max(substring(m.label from '_v([0-9]+)$')::integer), 0) + 1,
                %s, %s, %s, %s, c.half_life, c.decay_origin
            from recdb.config c left join recdb.model m on m.label like 'collaborative\\_filtering\\_v%%'
            group by c.half_life, c.decay_origin
            returning model_id, label
            """,
            [
                Jsonb(params.to_json()),
                len(np.unique(known.users)),
                len(np.unique(known.items)),
                len(known.users),
            ],
        ).fetchone()
        assert row is not None
        model_id, label = int(row[0]), str(row[1])
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
    return model_id, label


def pad(vectors: Float32, width: int) -> NDArray[np.float16]:
    """Return vectors (rows, d) in half precision, filled up with zeros to `width`."""
    padded = np.zeros((len(vectors), width), dtype=np.float16)
    padded[:, : vectors.shape[1]] = vectors
    return padded


def write_item_vectors(connection: psycopg.Connection, model_id: int, item_vectors: Float32, width: int) -> None:
    """Write the items' vectors; items that the basis does not reach have none."""
    keys = np.flatnonzero(np.abs(item_vectors).max(axis=1, initial=0) > 6e-5).astype(np.int32)
    copy_in(
        connection,
        f"recdb.item_vector_{model_id}",
        ["model_id", "item_key", "embedding"],
        [np.full(len(keys), model_id, dtype=np.int32), keys, pad(item_vectors[keys], width)],
    )


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
    connection: psycopg.Connection, model_id: int, basis: Basis, params: Params, width: int, report: Report
) -> None:
    """Fold every user in by what they are scored with, and write vectors and that, a block of users at a time."""
    row = connection.execute(
        "select (select max(u.user_key) from recdb.user_key u), (select max(t.item_key) from recdb.item_key t)"
    ).fetchone()
    assert row is not None
    users, items = row[0] + 1, row[1] + 1
    limit = min(params.profile_limit, profile_limit(connection))
    # What SQL folds in is in half precision; so is what is stored. Items that the basis does not know are nowhere.
    stored = np.zeros((items, basis.item_vectors.shape[1]), dtype=np.float32)
    stored[: len(basis.item_vectors)] = basis.item_vectors.astype(np.float16)

    def columns(block: range) -> Iterator[list[NDArray[Any]]]:
        profiles = read_profiles(connection, block, limit=limit, items=items)
        vectors, solid = fold_in(power(profiles, params.people_weight_exponent), stored)
        liking = power(profiles, params.neighbor_weight_exponent)
        for rows, item_keys, weights in by_length(liking, np.flatnonzero(solid)):
            model, keys = np.full(len(rows), model_id, dtype=np.int32), (rows + block.start).astype(np.int32)
            yield [model, keys, pad(vectors[rows], width), item_keys, weights, magnitude(weights)]

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


def attach(connection: psycopg.Connection, model_id: int, metrics: Mapping[str, Any]) -> None:
    """Attach a trained version's tables, so that it can be served."""
    connection.execute("set local lock_timeout = '60s'")
    for table in LEARNED_TABLES:
        connection.execute(
            sql.SQL("alter table recdb.{} attach partition recdb.{} for values in ({})").format(
                sql.Identifier(table), sql.Identifier(f"{table}_{model_id}"), sql.Literal(model_id)
            )
        )
    # Users that were forgotten while it trained.
    connection.execute(
        "delete from recdb.user_vector v where v.model_id = %s "
        "and not exists (select from recdb.user_key u where u.user_key = v.user_key)",
        [model_id],
    )
    connection.execute(
        "update recdb.model set state = 'ready', metrics = %s where model_id = %s", [Jsonb(metrics), model_id]
    )


def compare(connection: psycopg.Connection, label: str, figure: Figure | None) -> str | None:
    """Say why a version should not replace the active one, None where it may."""
    row = connection.execute("select label, metrics -> 'validation' from recdb.model where active").fetchone()
    served = Figure.from_json(row[1]) if row and row[1] else None
    if row is None or served is None or not clearly_worse(figure, served):
        return None
    found = f"ndcg@20 {figure}" if figure else "nobody's items are left to measure it on"
    return f"{label} is clearly worse than {row[0]}, which keeps serving: {found}, before ndcg@20 {served}"


def activate(connection: psycopg.Connection, model_id: int) -> None:
    """Make a version that was just trained the active one; what changed in recdb.config meanwhile stays as it is."""
    connection.execute("update recdb.model set active = false where active")
    connection.execute("update recdb.model set active = true, activated_at = now() where model_id = %s", [model_id])


def catch_up(connection: psycopg.Connection, moment: datetime) -> None:
    """Bring the vectors of users who were refreshed since a moment up to date: a new version may have missed them."""
    with connection.transaction():
        connection.execute("select pg_advisory_xact_lock(recdb.refresh_lock())")
        connection.execute(
            "select recdb.refresh_vectors(array("
            "select r.user_key from recdb.recent_user r where r.refreshed_at >= %s))",
            [moment],
        )


def log(connection: psycopg.Connection, model_id: int, seconds: float, error: str | None) -> None:
    """Write the training into recdb.refresh_log."""
    connection.execute(
        "insert into recdb.refresh_log (kind, started_at, finished_at, users, rows, model, error) "
        "select 'train', clock_timestamp() - make_interval(secs => %s), clock_timestamp(), m.users, "
        "m.interactions, m.label, %s from recdb.model m where m.model_id = %s",
        [seconds, error, model_id],
    )
