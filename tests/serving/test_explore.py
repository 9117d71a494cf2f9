"""Exploring: items with few impressions get a share of the places. test_steer.py follows each list by the formulas."""

from collections.abc import Iterator

import numpy as np
import psycopg
import pytest
from scipy import stats
from support.data import column, recommend, record, tastes, train
from support.steered import beta_draws

from recdb.data.attach import attach
from recdb.data.sources import parse_source
from recdb.database import Database

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def connection(module_database: Database) -> Iterator[psycopg.Connection]:
    """A model of forty users and sixty items, and a scenario that explores a tenth."""
    with psycopg.connect(module_database.conninfo, autocommit=True) as connection:
        record(connection, tastes(users=40, items=60, per_user=9))
        connection.execute("insert into recdb.scenario (name, explore) values ('curious', 0.1)")
        train(module_database, neighbors=15)
        yield connection


@pytest.fixture(autouse=True)
def undone(connection: psycopg.Connection) -> Iterator[None]:
    with connection.transaction(force_rollback=True):
        yield


def explored(connection: psycopg.Connection, user: str, k: int = 25, **arguments: object) -> list[str]:
    rows = recommend(connection, user, k, scenario="curious", **arguments)
    return [row[0] for row in rows if row[2] == "explored"]


def fill_again(connection: psycopg.Connection) -> None:
    """Refresh, as if the time until the next choice of items to explore had passed."""
    connection.execute("update recdb.little_shown_state set took = '0'")
    connection.execute("select recdb.keep_little_shown(false)")


def test_draws_follow_the_beta_posterior() -> None:
    hashes = np.random.default_rng(0).integers(-(2**63), 2**63, 40_000)
    for impressions, touched in ((0, 0), (5, 0), (9, 9), (40, 3), (1000, 10)):
        draws = beta_draws(hashes, np.full(40_000, impressions), np.full(40_000, touched))
        posterior = stats.beta(1 + touched, 1 + impressions - touched)
        assert stats.kstest(draws, posterior.cdf).statistic < 0.03, (impressions, touched)


def test_each_list_explores_its_share_and_users_differ(connection: psycopg.Connection) -> None:
    lists = [explored(connection, f"u{number}", 25, fallback="popular") for number in range(40)]
    assert {len(items) for items in lists} == {2, 3}
    assert 80 < sum(map(len, lists)) < 120
    assert len({item for items in lists for item in items}) > 20
    short = [explored(connection, f"u{number}", 5) for number in range(40)]
    assert {len(items) for items in short} == {0, 1}


def test_a_page_stays_and_other_scenarios_have_other_draws(connection: psycopg.Connection) -> None:
    first = recommend(connection, "u6", 25, scenario="curious")
    assert recommend(connection, "u6", 25, scenario="curious") == first
    connection.execute("update recdb.scenario set explore = 1 where name = 'curious'")
    every = explored(connection, "u6", 10)
    connection.execute("update recdb.scenario set name = 'other' where name = 'curious'")
    other = [row[0] for row in recommend(connection, "u6", 10, scenario="other")]
    assert len(every) == len(other) == 10 and every != other


def test_what_was_shown_often_is_explored_no_more(connection: psycopg.Connection) -> None:
    connection.execute("update recdb.scenario set explore = 1, explore_below = 3 where name = 'curious'")
    before = explored(connection, "u6", 60)
    connection.execute("select recdb.add_impression_weeks()")
    for user in ("u20", "u21", "u22"):
        connection.execute("select recdb.impressions(%s, %s::text[])", [user, before[:10]])
    connection.execute("select recdb.keep_impressions(true)")
    fill_again(connection)
    after = explored(connection, "u6", 60)
    assert set(after) == set(before[10:])


def test_a_touched_item_is_drawn_before_untouched_ones_on_average(connection: psycopg.Connection) -> None:
    connection.execute("update recdb.scenario set explore = 1 where name = 'curious'")
    liked, ignored = explored(connection, "u6", 2)
    connection.execute("update recdb.little_shown set impressions = 20, touched = 0")
    connection.execute(
        "update recdb.little_shown set touched = 15 where item_key = "
        "(select item_key from recdb.item_key where item_id = %s)",
        [liked],
    )
    drawn = explored(connection, "u6", 60)
    assert drawn[0] == liked and ignored in drawn


def test_new_items_are_explored_after_a_refresh_and_cost_none_while_off(connection: psycopg.Connection) -> None:
    connection.execute("insert into recdb.item (item_id, published_at) values ('fresh', now() - interval '1 hour')")
    connection.execute("insert into recdb.item (item_id, available) values ('gone', false)")
    connection.execute("update recdb.scenario set explore = 0 where name = 'curious'")
    fill_again(connection)
    known = "select item_id from recdb.little_shown join recdb.item_key using (item_key)"
    assert "fresh" not in column(connection.execute(known))
    connection.execute("update recdb.scenario set explore = 1 where name = 'curious'")
    fill_again(connection)
    assert {"fresh", "i1"} <= set(column(connection.execute(known)))
    drawn = explored(connection, "u6", 100)
    assert "fresh" in drawn and "gone" not in drawn
    connection.execute("update recdb.item set available = false where item_id = 'fresh'")
    assert "fresh" not in explored(connection, "u6", 100)


def test_somebody_new_and_guests_get_explored_items(connection: psycopg.Connection) -> None:
    connection.execute("update recdb.scenario set explore = 1 where name = 'curious'")
    assert len(explored(connection, "nobody", 7)) == 7
    guest = "select item_id, reason from recdb.recommend_for_items(array[%s], 7, scenario => 'curious')"
    first = connection.execute(guest, ["i1"]).fetchall()
    assert [row[1] for row in first] == ["explored"] * 7 and "i1" not in dict(first)
    assert connection.execute(guest, ["i1"]).fetchall() == first != connection.execute(guest, ["i2"]).fetchall()
    batch = connection.execute(
        "select reason from recdb.recommend_batch(array['u6', 'u7'], 7, scenario => 'curious')"
    ).fetchall()
    assert batch == [("explored",)] * 14


@pytest.mark.parametrize("acts", [False, True])
def test_the_fallback_of_a_scenario_decides(connection: psycopg.Connection, acts: bool) -> None:
    connection.execute(
        "update recdb.scenario set explore = 0, freshness = %s where name = 'curious'", ["1 day" if acts else None]
    )
    found = {}
    for of_scenario in (None, "none", "popular"):
        connection.execute("update recdb.scenario set fallback = %s where name = 'curious'", [of_scenario])
        for of_call in ("none", "popular"):
            rows = recommend(connection, "nobody", 5, fallback=of_call, scenario="curious")
            found[of_scenario, of_call] = len(rows)
    assert found == {
        (None, "none"): 0, (None, "popular"): 5, ("none", "none"): 0, ("none", "popular"): 0, ("popular", "none"): 5,
        ("popular", "popular"): 5,
    }  # fmt: skip


def test_the_first_interaction_dates_an_item(connection: psycopg.Connection) -> None:
    first = "select first_at from recdb.item_key where item_id = 'dated'"
    connection.execute("select recdb.track('u1', 'dated', 'like', now() - interval '2 days')")
    connection.execute("select recdb.refresh_changed()")
    assert connection.execute(f"select ({first}) = now() - interval '2 days'").fetchone() == (True,)
    connection.execute("select recdb.track('u2', 'dated', 'like', now() - interval '9 days')")
    connection.execute("select recdb.refresh_changed()")
    assert connection.execute(f"select ({first}) = now() - interval '2 days'").fetchone() == (True,)
    connection.execute("select recdb.rebuild()")
    assert connection.execute(f"select ({first}) = now() - interval '9 days'").fetchone() == (True,)
    connection.execute("delete from recdb.interaction where item_id = 'dated'")
    connection.execute("select recdb.rebuild(true)")
    assert connection.execute(first).fetchone() == (None,)


def test_an_attached_table_dates_items_too(db: psycopg.Connection, database: Database) -> None:
    db.execute("create table public.clicks (who text, what text, at timestamptz)")
    db.execute("create index on public.clicks (who, at)")
    db.execute(
        "insert into public.clicks values ('u1', 'seen', now() - interval '5 days'), ('u2', 'seen', now()), "
        "('u1', 'late', now() + interval '5 days'), ('u1', 'ever', '-infinity')"
    )
    attach(database, [parse_source("public.clicks user=who item=what at=at kind=like")], force=True)
    db.execute("select recdb.rebuild()")
    assert db.execute(
        "select item_id, now() - first_at > interval '4 days', first_at > now() - interval '1 day' "
        "from recdb.item_key order by 1"
    ).fetchall() == [("ever", None, None), ("late", False, True), ("seen", True, False)]
