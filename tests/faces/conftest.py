"""The HTTP service on a module's trained database, and a small database of its own for each test of doctor."""

from collections.abc import Iterator

import httpx
import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from support.data import record, tastes, train
from support.doctor import add_interactions
from support.http import ROLE
from support.serving import serving

from recdb import job
from recdb.database import Database


@pytest.fixture(scope="module")
def application(module_database: Database) -> Iterator[Database]:
    """The module's database with a model, as a role that has only recdb_reader and recdb_writer."""
    with psycopg.connect(module_database.conninfo, autocommit=True) as connection:
        record(connection, tastes())
        connection.execute("insert into recdb.item (item_id) values ('untouched')")
        connection.execute(
            "insert into recdb.item (item_id, attributes) "
            "select 'i' || n, '{\"lang\": \"fi\"}' from generate_series(7, 10) n"
        )
        train(module_database)
        connection.execute(f"create role {ROLE} login in role recdb_reader, recdb_writer")
        yield Database(make_conninfo(module_database.conninfo, user=ROLE), "test")
        connection.execute(f"drop role {ROLE}")


@pytest.fixture(scope="module")
def http(application: Database) -> Iterator[httpx.Client]:
    with serving(application) as client:
        yield client


@pytest.fixture
def trained(database: Database, db: psycopg.Connection) -> psycopg.Connection:
    """A connection to a database with a trained model."""
    add_interactions(db)
    job.run(database)
    return db


@pytest.fixture
def superuser(db: psycopg.Connection) -> psycopg.Connection:
    """A connection that may write the system catalogues, for mistakes that cannot be made otherwise."""
    db.execute("set allow_system_table_mods = on")
    return db
