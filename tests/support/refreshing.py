"""Helpers that the tests of CALL recdb.refresh() share: recording, refreshing, and reading the weights and the log."""

from typing import Any

import psycopg
import pytest


def refresh(connection: psycopg.Connection) -> None:
    connection.execute("call recdb.refresh()")


def track(connection: psycopg.Connection, *rows: tuple[str, str, str]) -> None:
    for row in rows:
        connection.execute("select recdb.track(%s, %s, %s)", row)


def weights(connection: psycopg.Connection) -> dict[tuple[str, str], float]:
    """The weights as of the last refresh."""
    rows = connection.execute("select user_id, item_id, weight from recdb.user_item_weights").fetchall()
    assert len({row[:2] for row in rows}) == len(rows)
    return {(user, item): pytest.approx(weight, rel=1e-9) for user, item, weight in rows}


def log(connection: psycopg.Connection) -> list[Any]:
    return connection.execute("select kind, error, users, rows from recdb.refresh_log order by run_id").fetchall()
