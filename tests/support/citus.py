"""Citus clusters for the tests: servers with Citus that the tests start, and databases that are spread over them."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

import psycopg
import pytest
from support.servers import Programs, Server, start_server

from recdb.database import Database

GIVEN = "RECDB_TEST_CITUS"
"""The environment variable that names the `bin` folder of a PostgreSQL server that has Citus and pgvector."""

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


def maker(nodes: Sequence[Server]) -> Callable[[], Database]:
    """Return a function that makes a database on these nodes; they are removed with the nodes."""
    numbers = count()
    return lambda: make_database(nodes, f"spread_{next(numbers)}")
