"""Psycopg 3."""

import json
from typing import Any

import psycopg
from verify import URL, USER, verify

# prepare_threshold=None is for a pgbouncer in transaction mode older than 1.21; leave it out without one.
with psycopg.connect(URL, prepare_threshold=None) as connection:

    def ask(query: str, *parameters: Any) -> list[str]:
        """Return the ids that a query gives."""
        return [row[0] for row in connection.execute(query, parameters)]

    verify(
        lambda: ask("select * from recommend(%s, 5)", USER),
        {
            "typed": lambda ids: ask("select * from recommend(%s, 5, %s::text[])", USER, ids),
            "untyped": lambda ids: ask("select * from recommend(%s, 5, %s)", USER, ids),
            "named": lambda ids: ask("select * from recommend(%s, 5, exclude => %s::text[])", USER, ids),
            "json": lambda ids: ask("select * from recommend(%s, 5, %s)", USER, json.dumps(ids)),
        },
        {
            "None": lambda: ask("select * from recommend(%s, %s, %s)", USER, 5, None),
            "None, typed": lambda: ask("select * from recommend(%s, 5, %s::text[])", USER, None),
            "an empty literal": lambda: ask("select * from recommend(%s, 5, '{}')", USER),
        },
    )
