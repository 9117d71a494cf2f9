"""Interactions for the tests, and the steps from them to a model that serves."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import psycopg

from recdb import job
from recdb.database import Database
from recdb.learn import Params

KINDS = ("view", "click", "like", "share")


def record(connection: psycopg.Connection, rows: Iterable[Sequence[Any]]) -> None:
    """Store interactions: (user_id, item_id, kind) and, for all rows or none, created_at."""
    rows = list(rows)
    columns = ("user_id", "item_id", "kind", "created_at")[: len(rows[0])]
    with connection.cursor().copy(f"copy recdb.interaction ({', '.join(columns)}) from stdin") as copy:
        for row in rows:
            copy.write_row(row)


def train(database: Database, **params: Any) -> str:
    """Rebuild, train a version with these hyper-parameters, let it serve in any case, and return its label."""
    label = job.run(database, full=True, force=True, params=Params(**params)).model
    assert label is not None
    return label


def tastes(users: int = 40, items: int = 60, per_user: int = 12, groups: int = 3, seed: int = 0) -> list[list[str]]:
    """Draw interactions of users u0.. with items i0.., three in four of them inside the user's own group of items."""
    generator = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        inside = np.arange(items) % groups == user % groups
        chances = np.where(inside, 3 / inside.sum(), 1 / max(1, (~inside).sum()))
        for item in generator.choice(items, size=per_user, replace=False, p=chances / chances.sum()):
            rows.append([f"u{user}", f"i{item}", str(generator.choice(KINDS, p=[0.5, 0.3, 0.15, 0.05]))])
    return rows


def recommend(connection: psycopg.Connection, user: str | None, k: int | None = 50, **named: Any) -> list[Any]:
    """Call the array form of recommend(); rows are (item_id, score, reason, model_version)."""
    types = {"exclude": "text[]", "fallback": "text", "filter": "jsonb", "model": "text", "among": "text[]"}
    types |= {"scenario": "text", "segment": "jsonb"}
    arguments = "".join(f", {name} => %({name})s::{types[name]}" for name in named)
    return connection.execute(
        f"select * from recommend(%(user)s::text, %(k)s::bigint{arguments})",
        {"user": user, "k": k, **named},
    ).fetchall()


def column(cursor: psycopg.Cursor[Any]) -> list[Any]:
    """Return the first column of a result."""
    return [row[0] for row in cursor]
