"""The logged pages beside the lists of a version: what recdb experiment estimate weighs."""

import psycopg
from support.data import column, record, tastes, train
from support.refreshing import refresh

from recdb.database import Database


def test_pages_of_a_version_match_its_lists_whatever_came_later(database: Database, db: psycopg.Connection) -> None:
    """Not the pages themselves, which rotation would push down, nor an experiment, nor the age of the log."""
    record(db, [[*row, "2026-01-01"] for row in tastes()])
    label = train(database)
    db.execute("update recdb.config set impression_retention = '10 years'")
    db.execute(
        "insert into recdb.item (item_id, attributes, published_at) select 'i' || n, jsonb_build_object('odd', n % 2), "
        "now() - n * interval '2 hours' from generate_series(0, 30) n"
    )
    db.execute("insert into recdb.scenario (name, freshness) values ('home', '3 hours')")
    db.execute("insert into recdb.scenario (name, filter) values ('other', '{\"odd\": 1}')")
    users = column(db.execute("select user_id from recdb.user_key order by user_key limit 20"))
    for user in users:
        items = column(db.execute("select item_id from recommend(%s, 5, scenario => 'home')", [user]))
        db.execute("select recdb.impressions(%s, %s::text[], 'home', propensities => "
                   "array_fill(0.99::real, array[%s]))", [user, items, len(items)])  # fmt: skip
    refresh(db)
    matched = "select count(*), count(*) filter (where matches) from recdb.logged_outcomes(%s, 'home')"

    def all_match() -> bool:
        shown, alike = db.execute(matched, [label]).fetchone() or (0, 0)
        return bool(shown == alike >= 80)

    assert all_match()
    db.execute("update recdb.scenario set rotation_rate = 1, rotation_time = '30 days', explore = 0.5 "
               "where name = 'home'")  # fmt: skip
    assert all_match()
    db.execute("insert into recdb.experiment (name, scenario) values ('colours', 'home')")
    db.execute("insert into recdb.experiment_variant (experiment, name, scenario) "
               "values ('colours', 'a', null), ('colours', 'b', 'other')")  # fmt: skip
    db.execute("select recdb.start_experiment('colours')")
    assert all_match()
    # A log of two years ago, when all items were as much younger: no age is lost in rounding.
    db.execute("update recdb.item set published_at = published_at - interval '2 years'")
    db.execute("update recdb.item_key set first_at = first_at - interval '2 years'")
    moved = "select recdb.list_then(%s, now() - interval '2 years', 5, %s, 'home')"
    db.execute("update recdb.interaction set created_at = created_at - interval '3 years'")
    db.execute("update recdb.scenario set rotation_rate = 0, explore = 0 where name = 'home'")
    for user in users[:3]:
        then = column(db.execute(moved, [user, label]))
        assert then == column(db.execute(
            "select t.item_id from recdb.impression m join recdb.item_key t using (item_key) "
            "join recdb.user_key u using (user_key) where u.user_id = %s order by m.place", [user]
        ))  # fmt: skip
