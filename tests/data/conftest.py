"""The application's database of tests/support/application.py: with recdb, with its tables attached, with a model."""

import psycopg
import pytest
from support import application
from support.attached import SOURCES
from support.data import record, tastes
from support.pages import TABLE, source

from recdb import job
from recdb.data.attach import attach
from recdb.database import Database


@pytest.fixture
def ids(request: pytest.FixtureRequest) -> application.Ids:
    return getattr(request, "param", "text")  # type: ignore[no-any-return]


@pytest.fixture
def app_db(db: psycopg.Connection, ids: application.Ids) -> psycopg.Connection:
    """A connection to the application's database, with recdb installed."""
    application.build(db, ids=ids, kind="interaction_type" if ids == "uuid" else "text")
    return db


@pytest.fixture
def attached(database: Database, app_db: psycopg.Connection) -> psycopg.Connection:
    """The same with its tables attached."""
    attach(database, SOURCES)
    return app_db


@pytest.fixture
def trained(database: Database, attached: psycopg.Connection) -> psycopg.Connection:
    """The same with a trained model."""
    job.run(database)
    return attached


@pytest.fixture
def pages(database: Database, db: psycopg.Connection) -> psycopg.Connection:
    """recdb with some interactions and no model, and the table of pages, attached and empty."""
    record(db, tastes(10, 20, 4))
    db.execute(TABLE)
    attach(database, [source()])
    return db
