"""An item that nobody has touched is gone once the catalogue has it no more: from among and from explored places."""

from pathlib import Path

import psycopg
from support.data import column, recommend, record, tastes, train
from support.refreshing import refresh

from recdb.database import Database
from recdb.everyone import recommend_all

NEW = ["bare", "shown", "titled"]


def fill(db: psycopg.Connection, database: Database) -> None:
    """Three items that nobody touched: one was shown, and one has a title by which a model places it."""
    record(db, tastes())
    db.execute(
        "insert into recdb.item (item_id, title, attributes) "
        "select 'i' || n, 'A song of topic ' || n % 3, jsonb_build_object('topic', n % 3) "
        "from generate_series(0, 49) n "
        "union all values ('bare', null, '{}'::jsonb), ('shown', null, '{}'), ('titled', 'A song of topic 1', '{}')"
    )
    db.execute("insert into recdb.scenario (name, explore) values ('curious', 1)")
    train(database)
    db.execute("select recdb.impressions('u3', '{shown,unlisted}'::text[], 'curious')")
    refresh(db)


def test_a_deleted_item_that_nobody_touched_is_gone(db: psycopg.Connection, database: Database) -> None:
    fill(db, database)
    among = [*NEW, "unlisted", "i1"]
    assert {row[0] for row in recommend(db, "u3", 9, among=among, scenario="curious")} >= set(NEW)
    db.execute("delete from recdb.item where item_id = any (%s)", [NEW])
    for _ in range(2):  # before the next refresh, and after it
        for fallback, scenario in (("none", "curious"), ("popular", None), ("popular", "curious")):
            for candidates in (None, among, among + [f"unknown{n}" for n in range(1000)]):
                rows = recommend(db, "u3", 1000, among=candidates, fallback=fallback, scenario=scenario)
                assert not {row[0] for row in rows} & {*NEW, "unlisted"}, (fallback, scenario)
        refresh(db)
    # A catalogue takes nothing away that users touched: i55 never was in it.
    db.execute("delete from recdb.item where item_id = 'i1'")
    assert "i1" in {row[0] for row in recommend(db, "nobody", 1000, fallback="popular")}
    assert {row[0] for row in recommend(db, "nobody", 9, fallback="popular", among=["i1", "i55"])} == {"i1", "i55"}


def test_what_a_model_knows_stays_although_its_users_went(
    db: psycopg.Connection, database: Database, tmp_path: Path
) -> None:
    """Also in everybody's lists at once."""
    fill(db, database)
    item = "i55"
    for user in column(db.execute("select distinct user_id from recdb.interaction where item_id = %s", [item])):
        db.execute("select recdb.forget_user(%s)", [user])
    refresh(db)
    assert db.execute("select from recdb.item_popularity where item_id = %s", [item]).fetchall() == []
    users = column(db.execute("select user_id from recdb.user_key order by user_key"))
    expected = {user for user in users if item in {row[0] for row in recommend(db, user, 1000)}}
    assert expected
    recommend_all(database, str(tmp_path / "lists.csv"), k=1000)
    lines = (tmp_path / "lists.csv").read_text().splitlines()
    assert {line.split(",")[0] for line in lines if line.split(",")[2] == item} == expected
