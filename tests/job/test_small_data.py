"""Trainings on next to no data: no warning, no NaN, and lists that say something or nothing."""

from collections.abc import Sequence

import numpy as np
import psycopg
import pytest
from support.data import column, recommend

from recdb import job
from recdb.database import Database
from recdb.errors import RecdbError
from recdb.learn import Params

SIZES = [(1, 1), (1, 2), (1, 5), (2, 1), (2, 2), (2, 5), (5, 1), (5, 2), (5, 5)]


def store(db: psycopg.Connection, users: int, items: int, chosen: Sequence[str] = ("like", "view")) -> None:
    """Everybody has every item, but one user: the last one lacks the last item."""
    rows = [
        (f"u{user}", f"i{item}", chosen[(user + item) % len(chosen)])
        for user in range(users)
        for item in range(items)
        if users == 1 or items == 1 or (user, item) != (users - 1, items - 1)
    ]
    db.execute("truncate recdb.interaction")
    with db.cursor() as cursor:
        cursor.executemany("insert into recdb.interaction (user_id, item_id, kind) values (%s, %s, %s)", rows)


def numbers(db: psycopg.Connection) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """All that the newest version learned, as one array."""
    weights = column(
        db.execute(
            "select unnest(n.weights)::float8 from recdb.item_neighbor n "
            "union all select n.total_weight from recdb.item_neighbor n"
        )
    )
    vectors = column(db.execute("select unnest(embedding::vector::real[])::float8 from recdb.user_vector"))
    return np.array([*weights, *vectors], dtype=np.float64)


@pytest.mark.parametrize("learner", ["the defaults", "ease"])
def test_a_few_users_and_items_train_without_a_warning(
    database: Database, db: psycopg.Connection, learner: str
) -> None:
    params = Params(learner="ease") if learner == "ease" else Params()
    with pytest.raises(RecdbError, match="no interactions to learn from"):
        job.run(database, full=True, params=params)
    for users, items in SIZES:
        store(db, users, items)
        job.run(database, full=True, force=True, params=params)  # pytest makes every warning an error
        found = numbers(db)
        assert len(found) and np.isfinite(found).all(), (users, items)
        rows = recommend(db, f"u{users - 1}", 10)
        assert all(0 <= score <= 1 for _, score, *_ in rows)
        if users > 1 and items > 1:
            assert [row[0] for row in rows if row[0] == f"i{items - 1}"] == [f"i{items - 1}"], (users, items)
