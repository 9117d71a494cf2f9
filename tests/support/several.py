"""Two recommenders in one database: posts in schema recdb, and people to follow in schema people."""

from dataclasses import replace

import psycopg
from support.data import column, record, tastes, train

from recdb import migrate
from recdb.database import Database, connect

CALL = "select item_id from {}.recommend('u1', 5)"


def people_of(database: Database) -> Database:
    return replace(database, schema="people")


def fill(database: Database, seed: int, prefix: str) -> None:
    """Let a recommender store and learn interactions of users u0.. with items of its own."""
    with connect(database, autocommit=True) as connection:
        record(connection, [(user, prefix + item, kind) for user, item, kind in tastes(seed=seed)])
    train(database)


def ask(database: Database, statement: str, *parameters: object) -> list[object]:
    """Return the first column of a statement's rows, as an application asks for it."""
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        return column(connection.execute(statement, parameters or None))


def execute(database: Database, *statements: str) -> None:
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def make_both(database: Database) -> None:
    """Let a database with recdb have both, trained on data of their own."""
    migrate.upgrade(people_of(database))
    fill(database, 0, "")
    fill(people_of(database), 1, "person-")
