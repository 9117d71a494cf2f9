"""The contract test: the properties that every recommender must have, whatever its model."""

from typing import Any

import psycopg
import pytest
from support.data import recommend, record, tastes, train

from recdb.database import Database

MODELS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "people": {"blend": 1.0},
    "items": {"blend": 0.0},
    "one dimension": {"dimension": 1},
    "one neighbour": {"neighbors": 1, "item_neighbors": 1},
    "equal kinds": {"people_weight_exponent": 0.0, "item_weight_exponent": 0.0, "profile_weight_exponent": 0.0},
    "no recency": {"people_recency": 0.0, "profile_recency": 0.0},
    "ease": {"learner": "ease"},
}


def checkerboard(size: int) -> list[list[str]]:
    """Users like the items of their own colour; each user lacks the item of their own number."""
    return [
        [f"u{user}", f"i{item}", "like"]
        for user in range(size)
        for item in range(size)
        if user != item and (user + item) % 2 == 0
    ]


@pytest.mark.parametrize("model", ["defaults", "people", "items", "equal kinds", "ease"])
def test_the_withheld_item_of_a_checkerboard_comes_first(
    database: Database, db: psycopg.Connection, model: str
) -> None:
    record(db, checkerboard(12))
    train(database, **MODELS[model])
    for user in range(12):
        assert recommend(db, f"u{user}", 1)[0][0] == f"i{user}"


@pytest.mark.parametrize("model", MODELS)
def test_lists_are_sound(database: Database, db: psycopg.Connection, model: str) -> None:
    """Scores are in [0, 1], have nine digits, start at 1 and never rise; ties are by id; no item twice, none seen."""
    rows = tastes()
    record(db, rows)
    train(database, **MODELS[model])
    for user in {row[0] for row in rows}:
        found = recommend(db, user, 1000)
        assert found
        assert found[0][1] == 1.0
        assert found == sorted(found, key=lambda row: (-row[1], row[0]))
        assert all(0 <= row[1] <= 1 and row[1] == round(row[1], 9) for row in found)
        items = [row[0] for row in found]
        assert len(set(items)) == len(items)
        assert set(items).isdisjoint(row[1] for row in rows if row[0] == user)


def test_a_batch_equals_single_calls(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes())
    train(database)
    users = [f"u{n}" for n in range(40)]
    batch = db.execute("select user_id, item_id, score from recdb.recommend_batch(%s, 10)", [users]).fetchall()
    single = [(user, *row[:2]) for user in users for row in recommend(db, user, 10)]
    assert batch == single


def test_shorter_lists_are_the_beginning_of_longer_ones(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes())
    train(database)
    for user in ("u0", "u1", "u2"):
        everything = recommend(db, user, 1000)
        for k in range(1, len(everything) + 1):
            assert recommend(db, user, k) == everything[:k]


def test_among_equals_the_first_ids_are_kept(database: Database, db: psycopg.Connection) -> None:
    record(db, [[f"u{n}", f"i{m:02}", "like"] for n in range(30) for m in range(40)])
    record(db, [["newcomer", "i20", "like"]])
    train(database, blend=1.0)
    equal = [f"i{m:02}" for m in range(40) if m != 20]
    assert {row[1] for row in recommend(db, "newcomer")} == {1.0}
    for k in range(1, 40):
        assert [row[0] for row in recommend(db, "newcomer", k)] == equal[:k]


def test_k_beyond_the_catalogue_gives_what_there_is(database: Database, db: psycopg.Connection) -> None:
    record(db, checkerboard(8))
    train(database)
    rows = recommend(db, "u0", 1000, fallback="popular")
    assert sorted(row[0] for row in rows) == ["i0", "i1", "i3", "i5", "i7"]


def test_the_same_data_trains_the_same_model(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes())
    train(database)
    first = {user: recommend(db, user) for user in ("u0", "u1", "u2")}
    train(database)
    for user, rows in first.items():
        again = {row[0]: row[1] for row in recommend(db, user)}
        assert again == pytest.approx({row[0]: row[1] for row in rows}, abs=1e-4)


def test_it_recommends_better_than_what_is_popular(database: Database, db: psycopg.Connection) -> None:
    """One item of each user is withheld; the model recommends more of them than popularity does."""
    rows = tastes(users=120, per_user=14)
    withheld = {row[0]: row[1] for row in rows}
    record(db, [row for row in rows if withheld[row[0]] != row[1]])
    train(database)
    hits = {"none": 0, "popular": 0}
    for user, item in withheld.items():
        personal = [row[0] for row in recommend(db, user, 10)]
        hits["none"] += item in personal
        seen = [row[1] for row in rows if row[0] == user and row[1] != item]
        hits["popular"] += item in [row[0] for row in recommend(db, "nobody", 10, exclude=seen, fallback="popular")]
    assert hits["none"] > 1.2 * hits["popular"]
