"""Call recommend() with psycopg 3."""

import json
from typing import Any

import psycopg
from verify import URL, USER, verify

# You need prepare_threshold=None only behind a pgbouncer older than 1.21 in transaction mode.
with psycopg.connect(URL, prepare_threshold=None) as connection:

    def ask(query: str, *parameters: Any) -> list[str]:
        """Return the ids of a query's rows."""
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
