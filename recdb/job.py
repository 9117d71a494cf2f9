"""The maintenance job: refresh in SQL, and train a new model version when it is time.

A version is trained beside the one that serves: its vectors go into tables of their own, which become partitions
in the one short transaction that also flips `active`. Whatever cuts the job off, the old version stays served,
and the next run removes what was left.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql
from psycopg.types.json import Jsonb
from scipy import sparse

from recdb.copy import copy_in, copy_out
from recdb.database import Database, connect
from recdb.errors import RecdbError
from recdb.learn import Params, fit_basis, fit_cooccurrence, fold_in
from recdb.learn.basis import Float32, absolute_sums, inverse_power, signed_power
from recdb.migrate import require_installed
from recdb.versions import LEARNED_TABLES, clean_up

# An advisory lock's key: "recjob" in ASCII. It is held by a transaction of its own, not by a session, so that
# it works through a transaction-pooling pgbouncer.
JOB_LOCK = 0x7265636A6F62

USER_BLOCK = 50_000

Report = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """What a run of the job did."""

    ran: bool
    """False where another job was running and nothing was done."""
    refreshed: bool = False
    model: str | None = None
    """The label of the version that was trained and activated, if one was."""
    seconds: float = 0.0


@dataclass(frozen=True)
class Interactions:
    """The weighted interactions, as arrays of one length: dense keys from 1, and summed weights."""

    users: NDArray[np.int32]
    items: NDArray[np.int32]
    weights: NDArray[np.float32]


def run(
    database: Database,
    *,
    full: bool = False,
    if_stale: timedelta | None = None,
    params: Params | None = None,
    report: Report = lambda line: None,
) -> Outcome:
    """Refresh, and train when there is no model, when `full`, or when the model is older than `if_stale`.

    Two jobs at once: the second does nothing and says so by `ran=False`.
    """
    began = time.monotonic()
    with connect(database, autocommit=True) as connection, job_lock(database) as locked:
        if not locked:
            return Outcome(ran=False)
        require_installed(connection)
        watch_for_lost_client(connection)
        clean_up(connection, report)
        age = connection.execute("select now() - created_at from recdb.model where active").fetchone()
        train_now = full or age is None or (if_stale is not None and age[0] > if_stale)
        if not train_now:
            report("refreshing changed users")
            connection.execute("call recdb.refresh()")
            return Outcome(ran=True, refreshed=True, seconds=time.monotonic() - began)
        report("weighting interactions")
        connection.execute("select recdb.rebuild()")
        # Index-only scans of the neighbours' items need the visibility map.
        connection.execute(
            "vacuum (analyze) recdb.user_item_settled, recdb.item_popularity, recdb.user_key, recdb.item_key, "
            "recdb.user_item_recent, recdb.recent_user, recdb.interaction, recdb.interaction_kind, recdb.config"
        )
        label = train(connection, params or Params(), report)
        return Outcome(ran=True, refreshed=True, model=label, seconds=time.monotonic() - began)


@contextmanager
def job_lock(database: Database) -> Iterator[bool]:
    """Hold the job's lock while the block runs; yield False where another job has it."""
    with connect(database) as connection:
        row = connection.execute("select pg_try_advisory_xact_lock(%s)", [JOB_LOCK]).fetchone()
        # Also closes the query before it, whose snapshot would hold back vacuum, and our own clean-up.
        connection.execute("set local idle_in_transaction_session_timeout = 0")
        yield bool(row and row[0])


def watch_for_lost_client(connection: psycopg.Connection) -> None:
    """Let the server end our statements soon after this process died, instead of finishing them for nobody."""
    connection.execute("set client_connection_check_interval = '1s'")


def train(connection: psycopg.Connection, params: Params, report: Report) -> str:
    """Train a version from the weighted interactions and make it the active one; return its label."""
    began = time.monotonic()
    installed = connection.execute(
        "select atttypmod from pg_attribute where attrelid = 'recdb.item_vector'::regclass and attname = 'embedding'"
    ).fetchone()
    assert installed is not None
    width = int(installed[0])
    params = Params.from_json(params.to_json() | {"dimension": min(params.dimension, width)})

    report("reading interactions")
    known = read_interactions(connection)
    if not len(known.users):
        raise nothing_to_learn(connection)
    weights = to_matrix(known, params.weight_exponent)
    basis = fit_basis(
        weights,
        dimension=params.dimension,
        user_exponent=params.user_exponent,
        item_exponent=params.item_exponent,
        spectrum_exponent=params.spectrum_exponent,
        progress=report,
    )

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
                    "create table recdb.{child} (like recdb.{table} including defaults including constraints, "
                    "check (model_id = {model_id}))"
                ).format(
                    child=sql.Identifier(f"{table}_{model_id}"),
                    table=sql.Identifier(table),
                    model_id=sql.Literal(model_id),
                )
            )

    write_item_vectors(connection, model_id, basis.item_vectors, width)
    write_item_neighbors(connection, model_id, weights, basis.right, params, report)
    write_user_vectors(connection, model_id, weights, basis.item_vectors, params, width, report)
    index(connection, model_id, report)
    activate_trained(connection, model_id, time.monotonic() - began)
    clean_up(connection, report)
    return label


def nothing_to_learn(connection: psycopg.Connection) -> RecdbError:
    """Say why there is nothing to train on: no interactions, or none with a weight."""
    row = connection.execute("select exists (select from recdb.user_item)").fetchone()
    if row and row[0]:
        return RecdbError("no interactions to learn from: all of them weigh 0", "see the table recdb.interaction_kind")
    return RecdbError("no interactions to learn from", "run: recdb load, recdb attach, or select recdb.track(...)")


def read_interactions(connection: psycopg.Connection) -> Interactions:
    """Read the weighted interactions, 12 bytes each."""
    columns = copy_out(
        connection,
        "select user_key, item_key, weight::real from recdb.user_item where abs(weight) > 1e-30",
        [("users", np.int32), ("items", np.int32), ("weights", np.float32)],
    )
    return Interactions(columns["users"], columns["items"], columns["weights"])


def to_matrix(known: Interactions, weight_exponent: float) -> sparse.csr_array:
    """Return W to the weight exponent; keys are row and column numbers, so row and column 0 are empty."""
    shape = (int(known.users.max(initial=0)) + 1, int(known.items.max(initial=0)) + 1)
    data = signed_power(known.weights, weight_exponent)
    return sparse.csr_array((data, (known.users, known.items)), shape=shape)


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


def write_item_neighbors(
    connection: psycopg.Connection,
    model_id: int,
    weights: sparse.csr_array,
    right: Float32,
    params: Params,
    report: Report,
) -> None:
    """Learn and write what each item recommends, a block of items at a time."""
    blocks = fit_cooccurrence(
        weights,
        right,
        exponent=params.cooccurrence_exponent,
        power=params.cooccurrence_power,
        spectral_weight=params.spectral_weight,
        self_weight=params.self_weight,
        count=params.item_neighbors,
        progress=report,
    )
    for block in blocks:
        copy_in(
            connection,
            f"recdb.item_neighbor_{model_id}",
            ["model_id", "item_key", "neighbor_keys", "weights"],
            [
                np.full(len(block.items), model_id, dtype=np.int32),
                block.items.astype(np.int32),
                block.neighbors,
                block.weights,
            ],
        )


def write_user_vectors(
    connection: psycopg.Connection,
    model_id: int,
    weights: sparse.csr_array,
    item_vectors: Float32,
    params: Params,
    width: int,
    report: Report,
) -> None:
    """Fold the users in and write their vectors, a block of users at a time."""
    sums, _ = absolute_sums(weights)
    damping = inverse_power(sums, params.activity_exponent)
    # What SQL folds in is in half precision; so is what is stored.
    stored = item_vectors.astype(np.float16).astype(np.float32)
    for start in range(0, weights.shape[0], USER_BLOCK):
        report(f"user vectors, {start:,} of {weights.shape[0]:,}")
        vectors, solid = fold_in(weights[start : start + USER_BLOCK], stored)
        keys = np.flatnonzero(solid)
        copy_in(
            connection,
            f"recdb.user_vector_{model_id}",
            ["model_id", "user_key", "embedding", "damping"],
            [
                np.full(len(keys), model_id, dtype=np.int32),
                (keys + start).astype(np.int32),
                pad(vectors[keys], width),
                damping[keys + start],
            ],
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
                    sql.SQL("create index on recdb.{} using hnsw (embedding {}.halfvec_cosine_ops)").format(
                        table, sql.Identifier(schema[0])
                    )
                )
        connection.execute(sql.SQL("analyze recdb.{}").format(table))


def activate_trained(connection: psycopg.Connection, model_id: int, seconds: float) -> None:
    """Attach a trained version's tables and make it the active one, in one short transaction."""
    with connection.transaction():
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
        connection.execute("update recdb.model set active = false where active")
        connection.execute(
            "update recdb.model set state = 'ready', active = true, activated_at = now(), "
            "metrics = metrics || jsonb_build_object('train_seconds', %s::float8) where model_id = %s",
            [round(seconds, 2), model_id],
        )
        connection.execute(
            "insert into recdb.refresh_log (kind, started_at, finished_at, users, rows, model) "
            "select 'train', clock_timestamp() - make_interval(secs => %s), clock_timestamp(), m.users, "
            "m.interactions, m.label from recdb.model m where m.model_id = %s",
            [seconds, model_id],
        )
