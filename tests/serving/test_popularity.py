"""Popularity counts users: one who comes back a thousand times counts about as one."""

import psycopg
from support.data import record, tastes

POPULAR = "select item_id, score from recdb.popular(5)"


def test_twenty_thousand_views_by_one_user_make_nothing_popular(db: psycopg.Connection) -> None:
    record(db, tastes())
    db.execute("call recdb.refresh()")
    before = db.execute(POPULAR).fetchall()

    record(db, (["crawler", "i59", "view"] for _ in range(20_000)))
    record(db, (["crawler", f"i{number % 60}", "view"] for number in range(6_000)))
    db.execute("call recdb.refresh()")

    assert [item for item, _ in db.execute(POPULAR)] == [item for item, _ in before]


def test_a_refresh_and_a_rebuild_come_to_the_same_popularity(db: psycopg.Connection) -> None:
    db.execute("update recdb.config set half_life = '30 days'")
    record(db, tastes())
    db.execute("call recdb.refresh()")
    record(db, (["crawler", "i59", "view"] for _ in range(500)))
    record(db, [["u1", "i2", "share"], ["u2", "i2", "like"]])
    db.execute("call recdb.refresh()")
    added = db.execute("select item_id, weight, users from recdb.item_popularity order by item_id").fetchall()
    db.execute("select recdb.rebuild()")

    assert added == db.execute("select item_id, weight, users from recdb.item_popularity order by item_id").fetchall()


def test_many_users_still_make_an_item_popular(db: psycopg.Connection) -> None:
    record(db, tastes())
    record(db, ([f"visitor-{number}", "i59", "view"] for number in range(400)))
    db.execute("call recdb.refresh()")

    assert next(iter(db.execute(POPULAR)))[0] == "i59"


def test_an_unused_heavy_kind_changes_nothing(db: psycopg.Connection) -> None:
    record(db, tastes())
    record(db, (["crawler", "i59", "view"] for _ in range(2_000)))
    db.execute("call recdb.refresh()")
    before = db.execute(POPULAR).fetchall()

    db.execute("insert into recdb.interaction_kind (kind, weight) values ('donate', 200)")
    db.execute("select recdb.rebuild()")

    assert db.execute(POPULAR).fetchall() == before


def test_one_who_views_a_thousand_times_counts_as_one_viewer(db: psycopg.Connection) -> None:
    record(db, [[f"u{number}", item, "view"] for number in range(2) for item in ("i1", "i2")])
    record(db, [["u2", "i1", "view"]])
    record(db, (["crawler", "i2", "view"] for _ in range(1_000)))
    db.execute("call recdb.refresh()")

    assert db.execute("select item_id, score from recdb.popular(2)").fetchall() == [("i1", 1.0), ("i2", 1.0)]


def test_one_row_of_the_future_does_not_change_the_order_of_the_other_items(db: psycopg.Connection) -> None:
    """In data that ended many half-lives ago."""
    db.execute("update recdb.config set half_life = '2 days'")
    record(db, [[*row, f"2024-01-{1 + number % 28:02}"] for number, row in enumerate(tastes())])
    db.execute("call recdb.refresh()")
    before = [item for (item,) in db.execute("select item_id from recdb.popular(60)") if item != "i7"]

    record(db, [["u1", "i7", "view", "2099-01-01"]])
    db.execute("call recdb.refresh()")
    refreshed = [item for (item,) in db.execute("select item_id from recdb.popular(60)") if item != "i7"]
    db.execute("select recdb.rebuild()")

    assert before == refreshed
    assert before == [item for (item,) in db.execute("select item_id from recdb.popular(60)") if item != "i7"]
