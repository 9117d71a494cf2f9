"""The smallest and the largest data: one item, one user, everything seen, a heavy user, a famous item."""

from typing import Any

import psycopg
import pytest
from support.data import column, recommend, record, tastes, train

from recdb import job
from recdb.database import Database
from recdb.errors import RecdbError

HEAVY_ITEMS = 10_000
FAMOUS_USERS = 100_000


def ids(rows: list[Any]) -> list[str]:
    return [row[0] for row in rows]


def test_a_catalogue_of_one(database: Database, db: psycopg.Connection) -> None:
    record(db, [[f"u{n}", "only", "like"] for n in range(5)])
    train(database)
    assert recommend(db, "u1") == []
    assert recommend(db, "u1", fallback="popular") == []
    assert [row[:3] for row in recommend(db, "stranger", fallback="popular")] == [("only", 1.0, "popular")]
    assert db.execute("select * from recdb.similar_items('only')").fetchall() == []
    assert len(db.execute("select * from recdb.neighbors('u1')").fetchall()) == 4


def test_a_single_user(database: Database, db: psycopg.Connection) -> None:
    record(db, [["me", f"i{n}", "like"] for n in range(5)])
    train(database)
    assert recommend(db, "me") == []
    assert recommend(db, "me", fallback="popular") == []
    assert db.execute("select * from recdb.neighbors('me')").fetchall() == []
    db.execute("select recdb.track('newcomer', 'i1', 'view')")
    rows = recommend(db, "newcomer")
    assert sorted(ids(rows)) == ["i0", "i2", "i3", "i4"]
    assert rows[0][1] == 1.0


def test_a_single_interaction(database: Database, db: psycopg.Connection) -> None:
    record(db, [["me", "only", "view"]])
    train(database)
    assert recommend(db, "me", fallback="popular") == []
    assert ids(recommend(db, "you", fallback="popular")) == ["only"]


def test_two_users_with_nothing_in_common(database: Database, db: psycopg.Connection) -> None:
    record(db, [["me", "mine", "view"], ["you", "yours", "view"]])
    train(database)
    assert recommend(db, "me") == []
    assert ids(recommend(db, "me", fallback="popular")) == ["yours"]


def test_training_on_nothing_is_refused_and_serving_goes_on(database: Database, db: psycopg.Connection) -> None:
    with pytest.raises(RecdbError, match="no interactions"):
        job.run(database, full=True)
    assert recommend(db, "anybody") == []
    record(db, tastes())
    label = train(database)
    db.execute("create table kept as select * from recdb.interaction")
    db.execute("delete from recdb.interaction")
    with pytest.raises(RecdbError, match="no interactions"):
        job.run(database, full=True)
    db.execute(
        "insert into recdb.interaction (user_id, item_id, kind, created_at) "
        "select user_id, item_id, kind, created_at from kept order by interaction_id"
    )
    assert {row[3] for row in recommend(db, "u1")} == {label}


def test_everything_seen(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes(items=30, per_user=8))
    record(db, [["done", f"i{n}", "view"] for n in range(30)])
    train(database)
    assert recommend(db, "done") == []
    assert recommend(db, "done", 1000, fallback="popular") == []
    assert recommend(db, "done", 1000, fallback="popular", exclude=["i1", "stranger"]) == []


def test_everything_excluded(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes(items=30, per_user=8))
    train(database)
    everything = [f"i{n}" for n in range(30)]
    assert recommend(db, "u1", exclude=everything) == []
    assert recommend(db, "u1", fallback="popular", exclude=everything) == []


def test_everybody_alike(database: Database, db: psycopg.Connection) -> None:
    """A matrix of rank one: all users like the same items equally."""
    record(db, [[f"u{n}", f"i{m}", "like"] for n in range(30) for m in range(5)])
    record(db, [["newcomer", "i0", "view"]])
    train(database)
    rows = recommend(db, "newcomer")
    assert ids(rows) == ["i1", "i2", "i3", "i4"]
    assert [row[1] for row in rows] == pytest.approx([1.0] * 4, abs=1e-3)


def test_a_dimension_beyond_what_the_data_has(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes(users=6, items=5, per_user=2))
    train(database, dimension=256)
    assert all(0 <= row[1] <= 1 for row in recommend(db, "u1"))


@pytest.fixture(scope="module", autouse=True)
def crowded(module_database: Database) -> None:
    """Ordinary users; `heavy` with 10,000 items of their own and some shared; and `famous`, which everybody viewed."""
    with psycopg.connect(module_database.conninfo, autocommit=True) as connection:
        record(connection, tastes(users=300, items=80))
        connection.execute(
            "insert into recdb.interaction (user_id, item_id, kind, created_at) "
            "select 'heavy', 'rare' || n, 'view', now() - make_interval(secs => n) from generate_series(1, %s) n",
            [HEAVY_ITEMS],
        )
        record(connection, [["heavy", f"i{n}", "like"] for n in range(0, 30, 3)])
        record(connection, [[f"u{n}", "famous", "view"] for n in range(150)])
        train(module_database)
        connection.execute(
            "insert into recdb.interaction (user_id, item_id, kind) "
            "select 'fan' || n, 'famous', 'view' from generate_series(1, %s) n",
            [FAMOUS_USERS],
        )
        connection.execute("select recdb.rebuild()")
        connection.execute("analyze")


def test_a_user_with_10000_items(shared: psycopg.Connection) -> None:
    seen = set(column(shared.execute("select item_id from recdb.interaction where user_id = 'heavy'")))
    assert len(seen) == HEAVY_ITEMS + 10
    rows = recommend(shared, "heavy", 1000)
    assert rows
    assert rows[0][1] == 1.0
    assert seen.isdisjoint(ids(rows))


def test_what_hides_is_never_capped(shared: psycopg.Connection) -> None:
    """The profile is cut to the newest items; the list of hidden items is not."""
    oldest = "rare10000"
    filled = recommend(shared, "heavy", 1000, fallback="popular")
    assert oldest not in ids(filled)
    assert sorted(ids(filled)) == sorted(["famous", *(f"i{n}" for n in range(80) if n >= 30 or n % 3)])


def test_an_item_with_100000_users(shared: psycopg.Connection) -> None:
    popular = recommend(shared, "stranger", 1, fallback="popular")
    assert popular[0][:2] == ("famous", 1.0)
    assert "famous" in ids(recommend(shared, "u200", 1000, fallback="popular"))
    fan = recommend(shared, "fan77", 20, fallback="popular")
    assert len(fan) == 20
    assert "famous" not in ids(fan)
    shared.execute("select recdb.track('newcomer', 'famous', 'view')")
    rows = recommend(shared, "newcomer")
    assert rows
    assert {row[2] for row in rows} == {"collaborative_filtering"}
    assert shared.execute("select * from recdb.neighbors('newcomer')").fetchall()


def test_the_heavy_users_taste_counts_for_others(shared: psycopg.Connection) -> None:
    """A user with one of the shared items gets the other shared ones before the rare ones."""
    shared.execute("select recdb.track('newcomer', 'i0', 'like')")
    rows = recommend(shared, "newcomer", 1000)
    shared_items = [position for position, row in enumerate(rows) if row[0] in {f"i{n}" for n in range(3, 30, 3)}]
    rare_items = [position for position, row in enumerate(rows) if row[0].startswith("rare")]
    assert len(shared_items) == 9
    assert max(shared_items) < min(rare_items, default=1000)


def test_the_largest_k(shared: psycopg.Connection) -> None:
    """The largest k gives all items that several users interacted with, and rare items up to k."""
    rows = recommend(shared, "u1", 1000, fallback="popular")
    touched = {"famous", *(f"i{n}" for n in range(80))}
    seen = set(column(shared.execute("select item_id from recdb.interaction where user_id = 'u1'")))
    assert len(rows) == len(set(ids(rows))) == 1000
    assert {item for item in ids(rows) if not item.startswith("rare")} == touched - seen


def test_a_long_list_to_exclude(shared: psycopg.Connection) -> None:
    """The first thousand pages of a thousand."""
    excluded = [f"rare{n}" for n in range(1, HEAVY_ITEMS + 1)]
    rows = recommend(shared, "u1", 1000, exclude=excluded, fallback="popular")
    seen = set(column(shared.execute("select item_id from recdb.interaction where user_id = 'u1'")))
    assert set(ids(rows)) == {"famous", *(f"i{n}" for n in range(80))} - seen


def test_a_refresh_after_a_heavy_users_interaction(shared: psycopg.Connection) -> None:
    shared.execute("select recdb.track('heavy', 'brand-new', 'share')")
    shared.execute("call recdb.refresh()")
    weighted = "select count(*) from recdb.user_item_weights where user_id = 'heavy'"
    assert shared.execute(weighted).fetchone() == (HEAVY_ITEMS + 11,)
    newest = "select weight from recdb.user_item_weights where user_id = 'heavy' and item_id = 'brand-new'"
    assert shared.execute(newest).fetchone() == (1.0,)
