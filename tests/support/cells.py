"""Several databases that share one item model: users of one world, divided among them."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import psycopg
from pytest_postgresql.executors import NoopExecutor
from support.data import record, tastes
from support.servers import Server

from recdb import job
from recdb.database import Database

_numbers = count()

WORLD = tastes(200, 60, 12)
SECOND = [row for row in WORLD if int(row[0][1:]) % 2 == 0]
ACTIVE = "select label from recdb.models where active"
ITEMS = """
    select t.item_id, 'vector', v.embedding::text
    from recdb.item_vector v join recdb.item_key t using (item_key) join recdb.model m using (model_id)
    where m.active
    union all
    select t.item_id, 'neighbors', array(
        select (o.item_id, u.weight)::text from unnest(r.neighbor_keys, r.weights) u(item_key, weight)
        join recdb.item_key o on o.item_key = u.item_key order by 1)::text
    from recdb.item_neighbor r join recdb.item_key t using (item_key) join recdb.model m using (model_id)
    where m.active
    order by 1, 2
"""
"""The item half of the active version, by item id."""


@contextmanager
def clones(server: Server, template: NoopExecutor | None, number: int) -> Iterator[list[Database]]:
    """Make some databases with recdb, or empty ones without a template, and drop them after the block."""
    names = [f"cell_{next(_numbers)}" for _ in range(number)]
    with psycopg.connect(server.conninfo("postgres"), autocommit=True) as connection:
        for name in names:
            connection.execute(
                f"create database {name} template {template.template_dbname if template else 'template0'}"
            )
        try:
            yield [Database(server.conninfo(name), "test") for name in names]
        finally:
            for name in names:
                connection.execute(f"drop database {name} with (force)")


def store(database: Database, rows: list[list[str]]) -> None:
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        record(connection, rows)


def ask(database: Database, query: str, *parameters: object) -> list[tuple[object, ...]]:
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        return connection.execute(query, parameters or None).fetchall()


def execute(database: Database, *statements: str) -> None:
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def lists_of(database: Database, users: list[str], k: int = 10) -> list[list[object]]:
    """Return the list of each user."""
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        query = "select item_id from recdb.recommend(%s::text, %s::bigint)"
        return [[item for (item,) in connection.execute(query, [user, k])] for user in users]


def take(here: Database, there: Database, *, force: bool = False) -> job.Outcome:
    return job.run(here, full=True, model_from=there, force=force)


def notes_of(outcome: job.Outcome) -> str:
    return "\n".join(outcome.notes)
