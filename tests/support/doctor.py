"""Helpers that the tests of recdb doctor share: some interactions, and the findings by check."""

import psycopg

from recdb.doctor import Finding, examine


def add_interactions(db: psycopg.Connection, users: int = 12, items: int = 12, kind: str = "like") -> None:
    db.execute(
        "insert into recdb.interaction (user_id, item_id, kind) "
        "select 'u' || u, 'i' || i, %s from generate_series(1, %s) u, generate_series(1, %s) i where (u + i) %% 3 > 0",
        [kind, users, items],
    )


def findings(connection: psycopg.Connection) -> dict[str, Finding]:
    return {finding.check: finding for finding in examine(connection)}


def find(connection: psycopg.Connection, check: str) -> Finding:
    return findings(connection)[check]
