"""The HTTP service on a module's trained database."""

from collections.abc import Iterator

import httpx
import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from support.data import record, tastes, train
from support.http import ROLE
from support.serving import serving

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
