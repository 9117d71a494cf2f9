"""Citus clusters for the tests: servers with Citus that the tests start, and databases that are spread over them."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from support.data import record, tastes, train
from support.servers import Programs, Server, start_server

from recdb import migrate
from recdb.database import Database, connect

LISTS = "select u.user_id, r.item_id, round(r.score::numeric, 5) from recdb.user_key u " \
    "cross join lateral recdb.recommend(u.user_id, 10, fallback => 'popular') r order by 1, 2"  # fmt: skip

GIVEN = "RECDB_TEST_CITUS"
"""The environment variable that names the `bin` folder of a PostgreSQL server that has Citus and pgvector."""

RELOAD = "select pg_reload_conf()"

# Loopback is not needed: the nodes of Citus find each other by their sockets' folders.
SETTINGS = (
    "shared_preload_libraries = 'citus'", "wal_level = logical", "max_prepared_transactions = 50",
    "max_connections = 60", "max_worker_processes = 40", "fsync = off", "full_page_writes = off",
    "citus.node_conninfo = 'sslmode=prefer'", "citus.enable_statistics_collection = off",
    "max_replication_slots = 30", "max_wal_senders = 30", "shared_buffers = 64MB",
)  # fmt: skip


def citus_folder() -> Path:
    """The `bin` folder that RECDB_TEST_CITUS names; without it, the test is skipped."""
    if GIVEN not in os.environ:
        pytest.skip(f"{GIVEN} names no server with Citus")
    folder = Path(os.environ[GIVEN]).absolute()
    if not (folder / "initdb").exists():
        pytest.fail(f"{GIVEN} is {folder}, which has no initdb")
    return folder


@contextmanager
def run_nodes(number: int) -> Iterator[list[Server]]:
    """Run servers with Citus, the first one is the coordinator, and remove them."""
    folder = citus_folder()
    with ExitStack() as stack:
        nodes = []
        for _ in range(number):
            parent = Path(tempfile.mkdtemp(prefix="recdb-test-"))
            stack.callback(shutil.rmtree, parent, ignore_errors=True)
            parent.chmod(0o755)
            settings = "\n".join(SETTINGS)
            handle, node = start_server(
                lambda data, cleanup_mode, settings=settings: Programs(folder, data, settings=settings),
                parent / "data",
            )
            stack.callback(handle.cleanup)
            # Citus connects from a node to itself too, when it moves shards.
            execute(node, "postgres", f"alter system set citus.local_hostname = '{node.host}'", RELOAD)
            nodes.append(node)
        yield nodes


def execute(node: Server, dbname: str, *statements: str) -> None:
    """Execute statements on a node, each in a transaction of its own."""
    with psycopg.connect(node.conninfo(dbname), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def make_database(nodes: Sequence[Server], name: str) -> Database:
    """Make a database on every node, with Citus and pgvector, and let the first node coordinate the others.

    A single node holds the shards itself.
    """
    coordinator = nodes[0]
    for node in nodes:
        execute(node, "postgres", f"create database {name} template template0")
        execute(node, name, "create extension citus", "create extension vector")
    execute(coordinator, name, f"select citus_set_coordinator_host('{coordinator.host}', {coordinator.port})")
    for worker in nodes[1:]:
        execute(coordinator, name, f"select citus_add_node('{worker.host}', {worker.port})")
    if len(nodes) == 1:
        execute(
            coordinator, name,
            f"select citus_set_node_property('{coordinator.host}', {coordinator.port}, 'shouldhaveshards', true)",
        )  # fmt: skip
    return Database(coordinator.conninfo(name), "test")


def drop_database(nodes: Sequence[Server], name: str) -> None:
    """Drop a database of all nodes."""
    for node in nodes:
        execute(node, "postgres", f"drop database if exists {name} with (force)")


def fill(database: Database, seed: int = 0) -> None:
    """Install recdb, and let it learn from a few users."""
    migrate.upgrade(database)
    with connect(database, autocommit=True) as connection:
        record(connection, tastes(seed=seed))
    train(database, dimension=8, neighbors=100)


def lists(database: Database) -> list[Any]:
    """Everybody's lists."""
    with connect(database) as connection:
        return connection.execute(LISTS).fetchall()


def ask(database: Database, query: str) -> Any:
    """Return the one value that a query gives."""
    with connect(database, autocommit=True) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]


def shards(database: Database, table: str) -> int:
    """How many shards a table of recdb has."""
    return int(ask(database, f"select count(*) from pg_dist_shard where logicalrelid = 'recdb.{table}'::regclass"))
