"""impressions(): what was shown to whom is kept by week, waits for nobody, and changes no list by itself."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from support.data import column, recommend, record, tastes, train
from support.refreshing import refresh

from recdb.client import Recommender
from recdb.database import Database
from recdb.errors import InvalidInput, RecdbError

NOW = datetime.now(UTC)


def weeks(db: psycopg.Connection) -> list[str]:
    return column(db.execute("select name from recdb.impression_partitions() order by 1"))


def kept(db: psycopg.Connection) -> list[tuple[Any, ...]]:
    """The impressions by ids: those that have a partition, and those that wait for a refresh."""
    return db.execute(
        """
        select u.user_id, t.item_id, m.place, m.scenario
        from recdb.impression m join recdb.user_key u using (user_key) join recdb.item_key t using (item_key)
        union all
        select n.user_id, n.item_id, n.place, n.scenario from recdb.impression_new n
        order by 1, 4, 3, 2
        """
    ).fetchall()


def show(db: psycopg.Connection, user: str, items: list[str | None], **named: Any) -> int:
    types = {"scenario": "text", "places": "integer[]", "shown_at": "timestamptz", "propensities": "real[]",
             "model_version": "text", "variant": "text"}  # fmt: skip
    more = "".join(f", {name} => %({name})s::{types[name]}" for name in named)
    row = db.execute(f"select recdb.impressions(%(u)s, %(i)s::text[]{more})", {"u": user, "i": items, **named})
    return int(row.fetchone()[0])  # type: ignore[index]


@pytest.fixture
def trained(database: Database, db: psycopg.Connection) -> psycopg.Connection:
    record(db, tastes())
    train(database)
    return db


def test_a_page_is_kept_in_its_order_with_what_the_application_says(trained: psycopg.Connection) -> None:
    assert show(trained, "u1", ["i3", "i1", None, "i9"]) == 3
    assert show(trained, "u1", ["i3", "i1"], scenario="home", places=[11, 12], propensities=[0.25, None]) == 2
    refresh(trained)

    assert kept(trained) == [
        ("u1", "i3", 1, "default"), ("u1", "i1", 2, "default"), ("u1", "i9", 4, "default"),
        ("u1", "i3", 11, "home"), ("u1", "i1", 12, "home"),
    ]  # fmt: skip
    assert trained.execute("select count(*) from recdb.impression_new").fetchone() == (0,)
    seen = "select distinct model_version, variant from recdb.impression"
    assert trained.execute(seen).fetchall() == [("collaborative_filtering_v1", None)]
    assert column(trained.execute("select propensity from recdb.impression where scenario = 'home' order by place")) \
        == [0.25, None]  # fmt: skip


def test_nothing_that_is_shown_changes_a_list(database: Database, trained: psycopg.Connection) -> None:
    before = [recommend(trained, user, 40, fallback="popular") for user in ("u1", "u2", "nobody")]
    for user in ("u1", "u2", "nobody"):
        show(trained, user, [f"i{number}" for number in range(60)])
    refresh(trained)

    assert [recommend(trained, user, 40, fallback="popular") for user in ("u1", "u2", "nobody")] == before
    train(database)
    assert [[row[:3] for row in recommend(trained, user, 40, fallback="popular")] for user in ("u1", "u2", "nobody")] \
        == [[row[:3] for row in rows] for rows in before]  # fmt: skip


def test_the_first_ones_wait_for_a_refresh_and_later_ones_are_there_at_once(trained: psycopg.Connection) -> None:
    show(trained, "stranger", ["i1", "unheard-of"])
    assert weeks(trained) == []
    assert len(kept(trained)) == 2
    refresh(trained)
    assert len(weeks(trained)) == 5

    show(trained, "stranger", ["unheard-of"], shown_at=NOW - timedelta(minutes=1))

    assert trained.execute("select count(*) from recdb.impression").fetchone() == (3,)
    assert trained.execute("select * from recdb.impression_new").fetchall() == []
    assert recommend(trained, "stranger") == []
    assert trained.execute("select vector_share from recdb.health").fetchone() == (1.0,)


def test_weeks_beyond_the_retention_go_and_no_others(trained: psycopg.Connection) -> None:
    for days in (1, 30, 60):
        show(trained, "u1", ["i1"], shown_at=NOW - timedelta(days=days))
    refresh(trained)
    assert trained.execute("select count(*) from recdb.impression").fetchone() == (3,)
    before = weeks(trained)

    trained.execute("update recdb.config set impression_retention = interval '40 days'")
    refresh(trained)

    assert trained.execute("select count(*) from recdb.impression").fetchone() == (2,)
    assert set(before) - set(weeks(trained)) == {min(before)}
    assert trained.execute("select impressions, touched from recdb.item_shown").fetchall() == [(2, 0)]


def test_a_drop_makes_nobody_wait(database: Database, trained: psycopg.Connection) -> None:
    """While somebody reads impressions, the old week stays, and the next refresh drops it."""
    show(trained, "u1", ["i1"], shown_at=NOW - timedelta(days=60))
    refresh(trained)
    trained.execute("update recdb.config set impression_retention = interval '40 days'")
    before = weeks(trained)
    with psycopg.connect(database.conninfo) as reader:
        reader.execute("select count(*) from recdb.impression")
        refresh(trained)
        assert weeks(trained) == before
    refresh(trained)
    assert len(weeks(trained)) == len(before) - 1


def test_whoever_records_waits_for_no_refresh_and_no_other(database: Database, trained: psycopg.Connection) -> None:
    show(trained, "u1", ["i1"])
    refresh(trained)
    with (
        psycopg.connect(database.conninfo) as one,
        psycopg.connect(database.conninfo) as other,
        psycopg.connect(database.conninfo) as refreshing,
    ):
        other.execute("set lock_timeout = '100ms'")
        show(one, "new-user", ["i1", "new-item"])
        show(other, "new-user", ["i1", "new-item"])
        other.commit()
        refreshing.execute("call recdb.refresh()")  # open: it has given keys to both
        show(other, "new-user", ["i1", "new-item"])
        show(other, "u1", ["new-item", "newer-item"])
        other.commit()
        refreshing.commit()
        one.commit()
    refresh(trained)
    assert trained.execute("select * from recdb.impression_new").fetchall() == []
    assert len(kept(trained)) == 9


def test_a_refresh_waits_for_no_open_page(database: Database, trained: psycopg.Connection) -> None:
    with psycopg.connect(database.conninfo) as page:
        show(page, "new-user", ["new-item"])
        trained.execute("set lock_timeout = '100ms'")
        refresh(trained)
        page.commit()
    refresh(trained)
    assert kept(trained) == [("new-user", "new-item", 1, "default")]


def test_counts_are_of_impressions_and_of_those_that_were_followed(trained: psycopg.Connection) -> None:
    for user in ("a", "b", "c"):
        show(trained, user, ["i1", "i2"], shown_at=NOW - timedelta(hours=2))
    trained.execute("select recdb.track('a', 'i1', 'like')")
    trained.execute("select recdb.track('b', 'i1', 'like', %s)", [NOW - timedelta(hours=3)])
    trained.execute("insert into recdb.ignored_user (user_id) values ('c')")
    trained.execute("insert into recdb.interaction_kind (kind, weight) values ('not interested', -1)")
    trained.execute("select recdb.track('b', 'i2', 'not interested')")
    refresh(trained)
    counts = (
        "select t.item_id, s.impressions, s.touched from recdb.item_shown s join recdb.item_key t using (item_key) "
        "order by 1"
    )

    assert trained.execute(counts).fetchall() == [("i1", 2, 1), ("i2", 2, 0)]
    trained.execute("select recdb.track('b', 'i1', 'view')")
    trained.execute("select recdb.rebuild()")
    assert trained.execute(counts).fetchall() == [("i1", 2, 2), ("i2", 2, 0)]


def test_a_forgotten_user_was_shown_nothing(trained: psycopg.Connection) -> None:
    show(trained, "u1", ["i1", "new"])
    refresh(trained)
    show(trained, "u1", ["i1", "newer"])
    show(trained, "u2", ["i1"])

    before = trained.execute("select count(*) from recdb.interaction where user_id = 'u1'").fetchone()[0]
    assert trained.execute("select recdb.forget_user('u1')").fetchone()[0] >= before + 4

    assert kept(trained) == [("u2", "i1", 1, "default")]
    assert trained.execute("select count(*) from recdb.impression").fetchone() == (1,)


@pytest.mark.parametrize("member", ["u2", "brand-new"])
def test_what_a_guest_was_shown_becomes_the_members(trained: psycopg.Connection, member: str) -> None:
    trained.execute("select recdb.track('guest', 'i5', 'view')")
    show(trained, "guest", ["i1"])
    refresh(trained)
    show(trained, "guest", ["i2", "new"], scenario="home")

    trained.execute("select recdb.merge_users('guest', %s)", [member])
    refresh(trained)

    assert kept(trained) == [(member, "i1", 1, "default"), (member, "i2", 1, "home"), (member, "new", 2, "home")]
    assert trained.execute("select * from recdb.impression_new").fetchall() == []


def test_whoever_was_only_shown_items_keeps_the_key_when_ignored(trained: psycopg.Connection) -> None:
    show(trained, "robot", ["i1"])
    refresh(trained)
    trained.execute("insert into recdb.ignored_user (user_id) values ('robot')")
    refresh(trained)
    assert kept(trained) == [("robot", "i1", 1, "default")]


@pytest.mark.parametrize(
    "call",
    [
        "recdb.impressions('', '{i1}')",
        "recdb.impressions(null::text, '{i1}')",
        "recdb.impressions('u1', array['i1', ''])",
        "recdb.impressions('u1', '{i1}', scenario => '')",
        "recdb.impressions('u1', '{i1}', places => '{1,2}')",
        "recdb.impressions('u1', '{i1}', places => '{0}')",
        "recdb.impressions('u1', '{i1}', propensities => '{0}')",
        "recdb.impressions('u1', '{i1}', propensities => '{1.5}')",
        "recdb.impressions('u1', '{i1}', propensities => '{NaN}')",
        "recdb.impressions('u1', '{i1,i2}', propensities => '{1}')",
        "recdb.impressions('u1', '{i1}', shown_at => now() + interval '2 days')",
        "recdb.impressions('u1', '{i1}', shown_at => now() - interval '1 year')",
        "recdb.impressions('u1', '{i1}', shown_at => 'infinity')",
        "recdb.impressions('u1', array_fill('i1'::text, array[1001]))",
        "recdb.impressions('u1', '{{i1},{i2}}')",
    ],
)
def test_what_cannot_be_meant_is_refused(shared: psycopg.Connection, call: str) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        shared.execute(f"select {call}")


@pytest.mark.parametrize("call", ["recdb.impressions('u1', '{}')", "recdb.impressions('u1', null::text[])"])
def test_an_empty_page_is_no_row(shared: psycopg.Connection, call: str) -> None:
    assert shared.execute(f"select {call}").fetchone() == (0,)


def test_ids_of_any_type_are_recorded_as_their_text(shared: psycopg.Connection) -> None:
    user = "6f0c1b52-8c52-4b7e-9d5a-0f2d3c4b5a69"
    shared.execute("select recdb.impressions(42, array[7, 8])")
    shared.execute("select recdb.impressions(%s::uuid, array[7.0, 8])", [user])
    shared.execute("select recdb.impressions('u1', array[%s]::uuid[])", [user])
    shared.execute("select recdb.impressions(42::smallint, '{a,b}')")

    assert sorted({row[:2] for row in kept(shared)}) == [
        ("42", "7"), ("42", "8"), ("42", "a"), ("42", "b"), (user, "7"), (user, "8"), ("u1", user),
    ]  # fmt: skip


def test_a_writer_records_and_reads_nothing(shared: psycopg.Connection) -> None:
    shared.execute("set local role recdb_writer")
    assert show(shared, "u1", ["i1", "i2"]) == 2
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        shared.execute("select * from recdb.impression_new")


def test_the_client_records(trained: psycopg.Connection) -> None:
    with Recommender(trained) as recommender:
        assert recommender.impressions("u1", [7, "i2"], scenario="home", places=[3, 4], propensities=[0.5, None]) == 2
        with pytest.raises(InvalidInput):
            recommender.impressions("u1", "i1")  # type: ignore[arg-type]
        with pytest.raises(RecdbError, match="propensity"):
            recommender.impressions("u1", ["i1"], propensities=[2])
    assert kept(trained) == [("u1", "7", 3, "home"), ("u1", "i2", 4, "home")]


def test_many_refreshes_and_pages_at_once_lose_and_double_nothing(
    database: Database, trained: psycopg.Connection
) -> None:
    """Pages from six sessions, beside refreshes that make the first partitions and move what waited for them.

    From the second round on, users and items have keys, and only the partitions are new.
    """
    failed: list[Exception] = []

    def pages(number: int) -> None:
        try:
            with psycopg.connect(database.conninfo, autocommit=True) as connection:
                for page in range(20):
                    show(connection, f"viewer-{number}-{page % 5}", [f"i{page}", f"fresh-{page % 7}"])
        except Exception as error:
            failed.append(error)

    for _ in range(10):
        threads = [threading.Thread(target=pages, args=[number]) for number in range(6)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            refresh(trained)
        for thread in threads:
            thread.join()
        refresh(trained)

        assert failed == []
        assert trained.execute("select * from recdb.impression_new").fetchall() == []
        assert len(kept(trained)) == 6 * 20 * 2
        trained.execute(
            "select recdb.drop_partitions('recdb.impression', array(select name from recdb.impression_partitions()))"
        )
