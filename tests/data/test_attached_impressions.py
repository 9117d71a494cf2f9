"""An application's own table of pages counts as impressions: the same figures, and each row once."""

import psycopg
import pytest
from support.data import column, recommend, record, tastes, train
from support.pages import KEPT, TABLE, kept, pairs, show, source
from support.refreshing import refresh

from recdb.data.attach import attach
from recdb.data.sources import Source
from recdb.database import Database

# The same figures ---------------------------------------------------------------------------------------------

FIGURES = {
    "metrics": "select day, scenario, experiment, variant, model_version, kind, users, impressions, touched, rate, "
    "rate_low, rate_high from recdb.online_metrics order by 1, 2, 3, 4, 5, 6",
    "shown": "select t.item_id, s.impressions, s.touched from recdb.item_shown s "
    "join recdb.item_key t using (item_key) order by 1",
    "rows": "select * from (" + KEPT + ") k",
    "experiment": "select * from recdb.experiment_sums('e', '1 day') order by 1, 2",
}


@pytest.mark.parametrize(
    ("ids", "form"),
    [("text", "an array of items"), ("uuid", "a row for each item"), ("bigint", "an array of items")],
)
def test_all_figures_are_those_of_the_same_pages_recorded_by_a_call(
    database: Database, db: psycopg.Connection, ids: str, form: str
) -> None:
    def name(kind: str, number: int) -> str:
        return {"text": f"{kind}{number}", "bigint": str(number)}.get(ids, f"{number:032x}"[:8] + "-0000-0000-0000-"
                                                                      + f"{number:012x}")  # fmt: skip

    record(db, [[name("u", int(u[1:])), name("i", int(i[1:])), kind, "2026-01-01"] for u, i, kind in tastes()])
    train(database)
    db.execute("insert into recdb.scenario (name, rotation_rate, rotation_time) values ('home', 0.9, '1 day')")
    db.execute("insert into recdb.experiment (name, scenario) values ('e', 'home')")
    db.execute("insert into recdb.experiment_variant (experiment, name) values ('e', 'a'), ('e', 'b')")
    db.execute("select recdb.start_experiment('e')")
    shown = [(name("u", user), [name("i", (user * 7 + place * 3) % 60) for place in range(1, 6)]) for user in range(40)]
    for user, items in shown:
        for item in items[:2]:
            db.execute("select recdb.track(%s, %s, 'click', now() + interval '1 minute')", [user, item])
    db.execute(f"create table page_view (who {ids}, what {ids}[], chances real[], at timestamp, arm text)")
    db.execute(
        "create view item_view as select who, i.what, i.spot::integer as spot, chances[i.spot] as chance, at, arm "
        "from page_view, unnest(page_view.what) with ordinality i(what, spot)"
    )
    moment = column(db.execute("select now()"))[0]
    for number, (user, items) in enumerate(shown):
        arm = "b" if number % 9 == 0 else None
        chances = [0.5, 0.25, None, 1.0, 0.1]
        db.execute(
            f"select recdb.impressions(%s, %s::{ids}[], 'home', null, %s, null, %s, %s::real[])",
            [user, items, moment, arm, chances],
        )
        db.execute(
            f"insert into page_view values (%s, %s::{ids}[], %s, %s at time zone 'UTC', %s)",
            [user, items, chances, moment, arm],
        )
    lists = (
        "select u.user_id, r.* from recdb.user_key u, recdb.recommend(u.user_id, 5, scenario => 'home') r order by 1, 3"
    )
    before = db.execute(lists).fetchall()
    db.execute("select recdb.rebuild()")
    recorded = {key: db.execute(query).fetchall() for key, query in FIGURES.items()}
    steered = [row[:2] for row in db.execute(lists).fetchall()]
    assert recorded["shown"] and recorded["metrics"] and len(recorded["rows"]) == 200
    assert steered == [row[:2] for row in before]

    db.execute("delete from recdb.impression")
    assert [row[:2] for row in db.execute(lists).fetchall()] != steered
    mapping = {"user": "who", "item": "what", "at": "at", "variant": "arm", "scenario": "'home'"}
    if form == "an array of items":
        attach(database, [Source("impressions", "page_view", mapping | {"propensity": "chances"})])
    else:
        attach(database, [Source("impressions", "item_view", mapping | {"place": "spot", "propensity": "chance"})])
    refresh(db)

    assert {key: db.execute(query).fetchall() for key, query in FIGURES.items()} == recorded
    assert [row[:2] for row in db.execute(lists).fetchall()] == steered


def test_no_list_changes_by_impressions_alone(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes())
    train(database)
    before = [recommend(db, user, 40, fallback="popular") for user in ("u1", "u2", "nobody")]
    db.execute(TABLE)
    attach(database, [source()])
    show(db, *((f"u{n % 3}", f"i{n}") for n in range(60)))
    refresh(db)

    assert len(kept(db)) == 60
    assert [recommend(db, user, 40, fallback="popular") for user in ("u1", "u2", "nobody")] == before


# Each row once ------------------------------------------------------------------------------------------------


def test_each_row_counts_once_however_often_a_refresh_runs(pages: psycopg.Connection) -> None:
    show(pages, ("u1", "i1"), ("u1", "i1"), ("new", "unheard-of"))
    for _ in range(2):
        refresh(pages)
        assert pairs(pages) == [("new", "unheard-of"), ("u1", "i1"), ("u1", "i1")]
    show(pages, ("u1", "i1"), ("u2", "i2"))
    refresh(pages)
    pages.execute("select recdb.rebuild()")
    assert pairs(pages) == [("new", "unheard-of"), *[("u1", "i1")] * 3, ("u2", "i2")]


def test_a_row_that_is_committed_late_is_copied(database: Database, pages: psycopg.Connection) -> None:
    with psycopg.connect(database.conninfo) as late:
        show(late, ("u1", "late"))
        show(pages, ("u1", "early"))
        refresh(pages)
        assert pairs(pages) == [("u1", "early")]
        late.commit()
    refresh(pages)
    assert pairs(pages) == [("u1", "early"), ("u1", "late")]

    show(pages, ("u1", "from a phone"), ago="2 days")
    refresh(pages)
    assert len(pairs(pages)) == 2
    pages.execute("select recdb.rebuild()")
    assert pairs(pages) == [("u1", "early"), ("u1", "from a phone"), ("u1", "late")]


def test_the_first_refresh_brings_the_retention_and_no_older_row(pages: psycopg.Connection) -> None:
    for ago in ("80 days", "30 days", "100 days"):
        show(pages, ("u1", ago), ago=ago)
    refresh(pages)
    assert pairs(pages) == [("u1", "30 days"), ("u1", "80 days")]
    assert pages.execute("select sum(impressions) from recdb.item_shown").fetchone() == (2,)

    pages.execute("update recdb.config set impression_retention = '40 days'")
    refresh(pages)
    pages.execute("select recdb.rebuild()")
    assert pairs(pages) == [("u1", "30 days")]


def test_a_refresh_reads_only_new_rows_by_the_index_of_their_time(
    database: Database, pages: psycopg.Connection
) -> None:
    show(pages, ("u1", "i1"))
    refresh(pages)
    pages.execute("insert into page_view (who, what, at) select 'u2', 'i2', now() - interval '40 days' "
                  "from generate_series(1, 5000)")  # fmt: skip
    pages.execute("analyze page_view")
    try:
        pages.execute("load 'auto_explain'")
    except psycopg.errors.UndefinedFile:
        pytest.skip("this server has no auto_explain")
    pages.execute("set auto_explain.log_min_duration = 0; set auto_explain.log_nested_statements = on")
    pages.execute("set auto_explain.log_level = notice")
    plans: list[str] = []
    pages.add_notice_handler(lambda notice: plans.append(notice.message_primary or ""))
    refresh(pages)

    plans = [plan for plan in plans if "page_view_at_idx" in plan]
    assert plans and not any("Seq Scan on page_view" in plan for plan in plans)
    assert any("impression_attached" in plan or "attachment_id_shown_at_idx" in plan for plan in plans)
    assert pairs(pages) == [("u1", "i1")]


def test_clocks_ahead_and_dates_and_zones(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes(10, 20, 4))
    db.execute("create table page_view (who text, what text, at timestamp, place integer)")
    db.execute("create table day_view (who text, what text, day date)")
    local = "now() at time zone 'America/New_York'"
    db.execute(f"insert into page_view values ('u1', 'i1', {local}), ('u1', 'i2', {local} + interval '3 hours')")
    db.execute("insert into day_view values ('u2', 'i1', now() at time zone 'UTC')")
    days = Source("impressions", "day_view", {"user": "who", "item": "what", "at": "day"})
    attach(database, [source("page_view", timezone="America/New_York"), days])
    for _ in range(2):
        refresh(db)
        assert pairs(db) == [("u1", "i1"), ("u1", "i2"), ("u2", "i1")]
    db.execute("insert into day_view values ('u2', 'i1', now() at time zone 'UTC')")
    refresh(db)
    assert pairs(db) == [("u1", "i1"), ("u1", "i2"), ("u2", "i1"), ("u2", "i1")]
    # A clock that was put back: the last copy seems to be of the future.
    db.execute("update recdb.attachment set copied_at = now() + interval '2 hours'")
    db.execute(f"insert into page_view values ('u3', 'i3', {local})")
    refresh(db)
    assert pairs(db)[-1] == ("u3", "i3") and len(pairs(db)) == 5


def test_the_version_is_the_one_that_served_at_that_time(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes())
    first = train(database)
    second = train(database)
    db.execute("update recdb.model set activated_at = now() - interval '3 days' where label = %s", [first])
    db.execute("update recdb.model set activated_at = now() - interval '1 day' where label = %s", [second])
    db.execute(TABLE)
    attach(database, [source(model_version="arm")])
    show(db, ("u1", "i1"), ago="4 days")
    show(db, ("u1", "i2"), ago="2 days")
    show(db, ("u1", "i3"), ago="1 hour")
    db.execute("insert into page_view (who, what, arm) values ('u1', 'i4', 'another')")
    refresh(db)

    assert [row[5] for row in kept(db)] == [None, first, second, "another"]


# Users who merge, and users who are forgotten -----------------------------------------------------------------


@pytest.mark.parametrize("applications", ["changes its rows too", "leaves its rows"])
def test_a_guest_who_became_a_member_counts_once(pages: psycopg.Connection, applications: str) -> None:
    show(pages, ("guest", "i1"), ("guest", "i2"), ("u1", "i2"))
    refresh(pages)
    pages.execute("select recdb.merge_users('guest', 'member')")
    if applications == "changes its rows too":
        pages.execute("update page_view set who = 'member' where who = 'guest'")
    show(pages, ("member", "i3"))
    refresh(pages)
    pages.execute("select recdb.rebuild()")

    assert pairs(pages) == [("member", "i1"), ("member", "i2"), ("member", "i3"), ("u1", "i2")]


def test_a_forgotten_user_is_not_copied_again(pages: psycopg.Connection) -> None:
    show(pages, ("u1", "i1"), ("u2", "i1"))
    refresh(pages)
    pages.execute("select recdb.forget_user('u1')")
    assert pairs(pages) == [("u2", "i1")]
    show(pages, ("u1", "i2"), ("u3", "i2"))
    refresh(pages)
    pages.execute("select recdb.rebuild()")
    assert pairs(pages) == [("u2", "i1"), ("u3", "i2")]
    assert pages.execute("select count(*) from recdb.forgotten_user").fetchone() == (1,)

    pages.execute("delete from page_view where who = 'u1'")
    pages.execute("select recdb.rebuild()")
    assert pages.execute("select count(*) from recdb.forgotten_user").fetchone() == (0,)
