"""Several databases that share one item model: users of one world, divided among them."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import psycopg
from pytest_postgresql.executors import NoopExecutor
from support.data import record
from support.servers import Server

from recdb.database import Database

_numbers = count()


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
