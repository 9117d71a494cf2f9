"""The HNSW indexes of a version, built with the memory that the server has.

A parallel build takes all of maintenance_work_mem as shared memory, which lies in /dev/shm; containers have 64 MB there
by default. So build_indexes() asks for the memory that an index needs, and no more than the server's settings allow. If
the server has less, the build goes on without parallel workers, and then with less memory.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import psycopg
from psycopg import sql

from recdb.citus import is_distributed, set_everywhere
from recdb.database import fetch_row
from recdb.errors import RecdbError, Unavailable
from recdb.faults import reach
from recdb.job.memory import lacks_memory, sparing, was_killed
from recdb.progress import Report
from recdb.translate import one_line

LINKS = 12
INDEX_OPTIONS = f"m = {LINKS}, ef_construction = 128"
"""The HNSW index: links of each vector, and candidates when a vector is inserted (pgvector's defaults: 16, 64).

Users may form tight groups, and with ef_construction = 64 one search in five ended in a wrong group. With m = 12
instead of 16 each new entry costs a fifth less, and a build a quarter less; searches compensate by reading a quarter
more candidates than they return."""

SAFE_PARALLEL = (0, 8, 2)
"""The first pgvector that builds an HNSW index in parallel without writing beyond its buffer (CVE-2026-3172)."""
SAFE_VACUUM = (0, 8, 4)
"""The first pgvector whose VACUUM never damages an HNSW index: 0.8.3 and 0.8.4 corrected it."""

MB = 1 << 20
PARALLEL_MEMORY = 96 * MB
"""PostgreSQL builds an index with two parallel workers only if the three processes have 32 MB each."""
MOST_MEMORY = 1 << 30
KEYS = {"item_vector": "item_key", "item_neighbor": "item_key", "user_vector": "user_key"}


@dataclass(frozen=True)
class Memory:
    """The memory that the build of an index needs, and the most that it may take."""

    needed: int
    """The bytes that hold the whole index; with less, the build is many times slower."""
    taken: int
    """The bytes that it takes at most: what it needs, or less if the server's settings say that less is there."""


def needed_memory(rows: float, dimension: int) -> int:
    """Return the bytes that the build of an HNSW index with INDEX_OPTIONS needs.

    pgvector 0.8 takes 650, 860 and 1,170 bytes a vector of 32, 128 and 256 dimensions in half precision.
    """
    return 4 * MB + int(rows * (640 + 2.5 * dimension))


def allowed_memory(connection: psycopg.Connection) -> int:
    """Return the bytes that an index build may take on this server.

    That is maintenance_work_mem, or more, up to 1 GB, if the server is large: effective_cache_size says how much memory
    a server has for its files, and a quarter of it is left to this one build a night.
    """
    (setting, cache) = fetch_row(
        connection,
        "select pg_size_bytes(current_setting('maintenance_work_mem')), "
        "pg_size_bytes(current_setting('effective_cache_size'))",
    )
    return max(int(setting), min(MOST_MEMORY, int(cache) // 4))


def pgvector_version(connection: psycopg.Connection) -> tuple[int, ...]:
    """Return the version of pgvector in this database, such as (0, 8, 0)."""
    (version,) = fetch_row(connection, "select extversion from pg_extension where extname = 'vector'")
    return version_of(version)


def version_of(text: str) -> tuple[int, ...]:
    """Read a version: '0.8.0' is (0, 8, 0)."""
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


def build_indexes(connection: psycopg.Connection, model_id: int, report: Report) -> list[str]:
    """Analyse a version's tables, and build their primary keys and HNSW indexes; needs autocommit.

    Returns a line for each index that was built more slowly than it could be: the event, and the remedy.
    Raises RecdbError if the server has no memory for an index.
    """
    parallel = pgvector_version(connection) >= SAFE_PARALLEL
    notes = []
    for name, key in KEYS.items():
        report(f"indexing {name}")
        table = f"{name}_{model_id}"
        connection.execute(sql.SQL("analyze recdb.{}").format(sql.Identifier(table)))
        if name != "item_neighbor":
            if not parallel:
                without_workers(connection, table)
            note = build_hnsw(connection, table, measure(connection, table))
            if note:
                notes.append(note)
        statement = sql.SQL("alter table recdb.{} add primary key (model_id, {})").format(
            sql.Identifier(table), sql.Identifier(key)
        )
        sparing(connection, partial(connection.execute, statement), report)
        reach("one index built")
    return notes


def without_workers(connection: psycopg.Connection, table: str) -> None:
    """Let every index of a table be built without parallel workers: by REINDEX and a restore of a dump, too."""
    connection.execute(sql.SQL("alter table recdb.{} set (parallel_workers = 0)").format(sql.Identifier(table)))


def measure(connection: psycopg.Connection, table: str) -> Memory:
    """Return the memory that the HNSW index of an analysed table needs and may take."""
    rows, dimension = fetch_row(
        connection,
        "select greatest(c.reltuples, 0), a.atttypmod from pg_class c "
        "join pg_attribute a on a.attrelid = c.oid and a.attname = 'embedding' "
        "where c.oid = format('recdb.%%I', %s::text)::regclass",
        [table],
    )
    if is_distributed(connection, table):
        return measure_shard(connection, table, dimension)
    needed = needed_memory(rows, dimension)
    return Memory(needed, min(max(needed, PARALLEL_MEMORY), allowed_memory(connection)))


def measure_shard(connection: psycopg.Connection, table: str, dimension: int) -> Memory:
    """Return the memory for the index of one shard: each node builds those of its shards at the same time."""
    rows, on_a_node = fetch_row(
        connection,
        sql.SQL(
            "select (select count(*) from recdb.{}) / count(distinct s.shardid)::float8, "
            "ceil(count(*)::float8 / count(distinct p.groupid))::integer "
            "from pg_catalog.pg_dist_shard s join pg_catalog.pg_dist_placement p on p.shardid = s.shardid "
            "where s.logicalrelid = to_regclass('recdb.' || {})"
        ).format(sql.Identifier(table), sql.Literal(table)),
    )
    needed = needed_memory(rows, dimension)
    return Memory(needed, min(max(needed, PARALLEL_MEMORY), allowed_memory(connection) // on_a_node))


def build_spread_index(connection: psycopg.Connection, table: str) -> None:
    """Build the HNSW index of a spread table in each of its shards, inside a transaction."""
    build_hnsw(connection, table, measure(connection, table))


def attempts(memory: int) -> Iterator[tuple[bool, int]]:
    """Yield the ways to build an index, the quickest first: with parallel workers or not, and with how much memory."""
    yield True, memory
    while memory >= MB:
        yield False, memory
        memory //= 4


def build_hnsw(connection: psycopg.Connection, table: str, memory: Memory) -> str | None:
    """Build a table's HNSW index with the server's memory; return a line if it was slower than it could be."""
    schema, role = fetch_row(
        connection,
        "select n.nspname, quote_ident(current_user) from pg_extension e "
        "join pg_namespace n on n.oid = e.extnamespace where e.extname = 'vector'",
    )
    statement = sql.SQL("create index on recdb.{} using hnsw (embedding {}.halfvec_cosine_ops) with ({})").format(
        sql.Identifier(table), sql.Identifier(schema), sql.SQL(INDEX_OPTIONS)
    )
    failure: psycopg.Error | None = None
    for parallel, taken in attempts(memory.taken):
        try:
            with connection.transaction():
                if not parallel:
                    without_workers(connection, table)
                set_everywhere(connection, table, "maintenance_work_mem", f"{taken // 1024}kB")
                connection.execute(statement)
        except psycopg.Error as error:
            if was_killed(connection, error):
                raise lost(table, taken, role, error) from error
            # A full disk is no lack of memory, and ends every attempt; only shared memory looks the same.
            if error.sqlstate != "53200" and not (parallel and lacks_memory(error)):
                raise
            failure = error
        else:
            return slowdown(table, memory, taken, failed=failure is not None)
    raise RecdbError(
        f"the server has no memory to build the index of {table}: {failure}",
        "give the server more memory, or train less: lower recdb.config.training_interactions",
    ) from failure


def lost(table: str, taken: int, role: str, error: psycopg.Error) -> Unavailable:
    """Explain a connection that was lost in the build of an index, for which a lack of memory is the usual reason."""
    less = {"effective_cache_size": taken, "maintenance_work_mem": taken // 4}
    statements = [f"alter role {role} set {name} = '{-(-size // MB)}MB';" for name, size in less.items()]
    return Unavailable(
        f"the connection was lost while the server built the index of {table} in {megabytes(taken)} of memory: "
        f"{one_line(str(error))}",
        "the server's log says why. If a process was killed (signal 9), its machine has too little memory: give it "
        f"more, or let a build take less ({' '.join(statements)}), and run this again",
    )


def slowdown(table: str, memory: Memory, taken: int, *, failed: bool) -> str | None:
    """Say how the build of an index was slower than it could be, and the remedy; None if it was not."""
    name = table.rpartition("_")[0]
    if taken < memory.needed:
        return (
            f"the index of {name} was built in {megabytes(taken)} of memory and needs {megabytes(memory.needed)}: "
            f"many times slower. Faster: a server with that much memory, and maintenance_work_mem = '{wanted(memory)}'"
        )
    if failed:
        return (
            f"the index of {name} was built without parallel workers: the server has no {megabytes(taken)} of shared "
            "memory. Faster: more room in /dev/shm; a container has 64 MB (docker: --shm-size=1g)"
        )
    return None


def megabytes(count: int) -> str:
    """Write a number of bytes in MB."""
    return f"{-(-count // MB):,} MB"


def wanted(memory: Memory) -> str:
    """Write the setting that suffices for an index."""
    return f"{-(-memory.needed // MB)}MB"
