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
