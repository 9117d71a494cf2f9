"""Call recommend() with SQLAlchemy 2, as text and as an expression."""

import json
from typing import Any

from sqlalchemy import ARRAY, Text, cast, column, create_engine, func, select, text
from verify import URL, USER, verify

# You need prepare_threshold None only behind a pgbouncer older than 1.21 in transaction mode.
engine = create_engine(URL.replace("postgresql://", "postgresql+psycopg://"), connect_args={"prepare_threshold": None})

with engine.connect() as connection:

    def ask(query: str, **parameters: Any) -> list[str]:
        """Return the ids of a query's rows."""
        return list(connection.scalars(text(query), {"user": USER, **parameters}))

    def ask_by_expression(ids: list[str]) -> list[str]:
        """Return the same ids without SQL in a string."""
        feed = func.recommend(USER, 5, cast(ids, ARRAY(Text))).table_valued(
            "item_id", "score", "reason", "model_version"
        )
        return list(connection.scalars(select(feed.c.item_id).order_by(feed.c.score.desc(), column("item_id"))))

    verify(
        lambda: ask("select * from recommend(:user, 5)"),
        {
            "typed": lambda ids: ask("select * from recommend(:user, 5, cast(:ids as text[]))", ids=ids),
            "untyped": lambda ids: ask("select * from recommend(:user, 5, :ids)", ids=ids),
            "json": lambda ids: ask("select * from recommend(:user, 5, :ids)", ids=json.dumps(ids)),
            "expression": ask_by_expression,
        },
        {
            "None": lambda: ask("select * from recommend(:user, :k, :ids)", k=5, ids=None),
            "an empty literal": lambda: ask("select * from recommend(:user, 5, '{}')"),
        },
    )
engine.dispose()
