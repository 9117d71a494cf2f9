"""The databases of the tests that take an item model: one with everybody, a cell, and one without interactions."""

from collections.abc import Iterator

import pytest
from pytest_postgresql.executors import NoopExecutor
from support.cells import SECOND, WORLD, clones, execute, store
from support.data import train
from support.servers import Server

from recdb.database import Database


@pytest.fixture(scope="module")
def source(server: Server, template: NoopExecutor) -> Iterator[Database]:
    """A database with everybody, trained. Its tests leave it as it is."""
    with clones(server, template, 1) as (database,):
        store(database, WORLD)
        train(database)
        yield database


@pytest.fixture
def cell(server: Server, template: NoopExecutor) -> Iterator[Database]:
    """A database with every second user, whose items have other keys than in `source`."""
    with clones(server, template, 1) as (database,):
        execute(database, "insert into recdb.item_key (item_id) select 'i' || n from generate_series(59, 0, -7) n")
        store(database, SECOND)
        yield database


@pytest.fixture
def fresh(server: Server, template: NoopExecutor) -> Iterator[Database]:
    """A database without any interaction."""
    with clones(server, template, 1) as (database,):
        yield database
