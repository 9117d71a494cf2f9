"""Upgrades of a database that holds data: nothing is lost, and it answers as a fresh install with the same data."""

from collections.abc import Callable

import psycopg
import pytest
from support.answers import WEIGHTS, answers
from support.data import record, tastes, train

from recdb import migrate
from recdb.database import Database

Make = Callable[[], Database]

EARLIER = ("0001", "0002", "0003", "0004")
STORED = (
    "select user_id, item_id, kind, created_at from recdb.interaction order by interaction_id",
    "select item_id, owner_id, published_at, available, attributes, title from recdb.item order by 1",
    "select kind, weight, hides from recdb.interaction_kind order by 1",
    "select half_life, profile_limit, kept_models from recdb.config",
)


def fill(db: psycopg.Connection) -> None:
    """Store interactions, a catalogue and settings, which every revision has a place for."""
    record(db, [[*row, f"2026-01-{1 + number % 28:02}"] for number, row in enumerate(tastes())])
    db.execute("insert into recdb.item (item_id, title, available) select 'i' || n, 'Item ' || n, n <> 7 "
               "from generate_series(0, 59) n")  # fmt: skip
    db.execute("insert into recdb.interaction_kind (kind, weight, hides) values ('cart', 0.5, false)")
    db.execute("update recdb.config set profile_limit = 77, kept_models = 3, half_life = '300 days'")


def stored(db: psycopg.Connection) -> list[object]:
    return [db.execute(query).fetchall() for query in STORED]


@pytest.fixture(scope="module")
def fresh(empty_database: Make) -> Database:
    """A fresh install with the same data, trained."""
    database = empty_database()
    migrate.upgrade(database)
    with psycopg.connect(database.conninfo, autocommit=True) as db:
        fill(db)
        train(database)
    return database


def without_models(given: dict[str, list[object]]) -> dict[str, list[object]]:
    """The answers without what names or numbers the versions' trainings."""
    return {name: lists for name, lists in given.items() if name != "models"}


def assert_like_fresh(database: Database, fresh: Database) -> None:
    with psycopg.connect(database.conninfo) as db, psycopg.connect(fresh.conninfo) as other:
        assert without_models(answers(db)) == without_models(answers(other))
        assert db.execute(WEIGHTS).fetchall() == other.execute(WEIGHTS).fetchall()


@pytest.mark.parametrize("revision", EARLIER)
def test_data_of_every_earlier_revision_are_kept_and_serve(
    empty_database: Make, fresh: Database, revision: str
) -> None:
    database = empty_database()
    migrate.upgrade(database, revision=revision)
    with psycopg.connect(database.conninfo, autocommit=True) as db:
        fill(db)
        before = stored(db)

        migrate.upgrade(database)

        assert stored(db) == before
        db.execute("call recdb.refresh()")
    train(database)
    assert_like_fresh(database, fresh)


@pytest.mark.parametrize("revision", EARLIER)
def test_going_down_and_up_with_a_trained_model_keeps_what_the_revision_holds(
    empty_database: Make, fresh: Database, revision: str
) -> None:
    database = empty_database()
    migrate.upgrade(database)
    with psycopg.connect(database.conninfo, autocommit=True) as db:
        fill(db)
        train(database)
        before, answered, weights = stored(db), answers(db), db.execute(WEIGHTS).fetchall()

        migrate.downgrade(database, revision)
        migrate.upgrade(database)

        assert stored(db) == before
        if revision >= "0003":
            assert answers(db) == answered
            assert db.execute(WEIGHTS).fetchall() == weights
        db.execute("call recdb.refresh()")
        assert db.execute(WEIGHTS).fetchall() == weights
        if revision < "0003":
            train(database)
    assert_like_fresh(database, fresh)
