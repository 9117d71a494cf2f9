"""Steered lists keep their rows: pages, pins, campaigns and limits, with filters and the popular items below."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb
from support.data import column, recommend, record, tastes, train

from recdb.database import Database

ITEMS = 150


@pytest.fixture(scope="module")
def connection(module_database: Database) -> Iterator[psycopg.Connection]:
    """A model of fifty users; their items have a topic of three, and an age of up to sixty days."""
    with psycopg.connect(module_database.conninfo, autocommit=True) as connection:
        record(connection, tastes(users=50, items=ITEMS, per_user=12))
        connection.execute(
            "insert into recdb.item (item_id, owner_id, attributes, published_at) select 'i' || n, 'o' || n %% 40, "
            "jsonb_build_object('topic', n %% 3, 'all', true), now() - (n * 37 %% 60) * interval '1 day' "
            "from generate_series(0, %s) n",
            [ITEMS - 1],
        )
        train(module_database, neighbors=40)
        yield connection


@pytest.fixture(autouse=True)
def undone(connection: psycopg.Connection) -> Iterator[None]:
    with connection.transaction(force_rollback=True):
        yield


def write(connection: psycopg.Connection, columns: str = "", *rules: tuple[Any, float | None, int | None]) -> None:
    """Write the scenario here, with its columns and rules: (condition, factor, place)."""
    connection.execute("insert into recdb.scenario (name) values ('here')")
    if columns:
        connection.execute(f"update recdb.scenario set {columns} where name = 'here'")  # type: ignore[call-overload]
    for condition, factor, place in rules:
        connection.execute(
            "insert into recdb.rule (scenario, condition, factor, place) values ('here', %s, %s, %s)",
            [Jsonb(condition), factor, place],
        )


def here(connection: psycopg.Connection, user: str, k: int, **options: Any) -> list[str]:
    return [row[0] for row in recommend(connection, user, k, scenario="here", **options)]


def pages(connection: psycopg.Connection, user: str, k: int, count: int, **options: Any) -> list[str]:
    found: list[str] = []
    for _ in range(count):
        found += here(connection, user, k, exclude=found, **options)
    return found


@pytest.mark.parametrize("user", ["u6", "nobody"])
def test_a_list_has_as_many_rows_as_may_come(connection: psycopg.Connection, user: str) -> None:
    """With the fallback: with two filters, with a factor 0, with an owner of all popular items, and further pages."""
    same = {"fallback": "popular", "filter": Jsonb({"topic": 1})}
    expected = {row[0] for row in recommend(connection, user, 1000, **same)}
    assert len(expected) > 30
    write(connection, "filter = '{\"all\": true}', fallback = 'popular', pool = 20", ("$.topic != 1", 0, None))
    assert set(here(connection, user, 1000)) == expected
    assert len(here(connection, user, 20, filter=Jsonb({"topic": 1}))) == 20
    assert set(here(connection, user, 1000, filter=Jsonb({"topic": 1}))) == expected
    assert set(pages(connection, user, 9, 9)) == expected


def test_an_owner_of_all_popular_items_ends_no_list(connection: psycopg.Connection) -> None:
    connection.execute(
        "update recdb.item set owner_id = 'big' where item_id in (select item_id from recdb.popular(100))"
    )
    write(connection, "max_per_owner = 2, fallback = 'popular', pool = 20")
    everything = column(connection.execute("select item_id from recdb.item"))
    for among in (None, everything):
        for user in ("nobody", "u6"):
            rows = here(connection, user, 20, among=among)
            assert len(rows) == len(set(rows)) == 20
            owners = Counter(column(connection.execute(
                "select owner_id from recdb.item where item_id = any (%s)", [rows])))  # fmt: skip
            assert max(owners.values()) <= 2


@pytest.mark.parametrize("explore", [0, 0.2])
def test_a_pool_that_limits_close_is_followed_from_the_item_below_it(
    connection: psycopg.Connection, explore: float
) -> None:
    """The best 20 items are of three owners, the next 20 of four: the list goes on with the first item below them."""
    ranked = [row[0] for row in recommend(connection, "u6", 1000)]
    assert len(ranked) > 60
    owners = [rank % 3 if rank < 20 else 10 + rank % 4 if rank < 40 else rank for rank in range(len(ranked))]
    connection.execute("update recdb.item set owner_id = 'other'")
    connection.execute(
        "update recdb.item i set owner_id = n.owner from unnest(%s::text[], %s::text[]) n(item_id, owner) "
        "where n.item_id = i.item_id",
        [ranked, [str(owner) for owner in owners]],
    )
    write(connection, f"max_per_owner = 1, pool = 20, explore = {explore}")
    long = here(connection, "u6", 25)
    if not explore:
        assert long == [ranked[rank] for rank in (0, 1, 2, 20, 21, 22, 23, *range(40, 58))]
    for k in (2, 5, 12):
        assert pages(connection, "u6", k, 25 // k) == long[: 25 // k * k]
    connection.execute(
        "insert into recdb.rule (scenario, condition, factor) values ('here', to_jsonb('$.topic == 1'::text), 3)"
    )
    assert pages(connection, "u6", 5, 5) == here(connection, "u6", 25)


def test_pages_are_parts_of_the_long_list(connection: psycopg.Connection) -> None:
    """Far beyond the pool, with everything that changes the order."""
    write(
        connection, "freshness = '3 days', max_per_owner = 2, diversity = .2, explore = .1, pool = 20",
        ({"topic": 1}, 2, None), ({"topic": 2}, None, 25), ({"topic": 0}, None, 3),
    )  # fmt: skip
    for fallback in ("none", "popular"):
        long = here(connection, "u6", 60, fallback=fallback)
        assert len(long) == 60
        for k in (7, 20, 30):
            assert pages(connection, "u6", k, 60 // k, fallback=fallback) == long[: k * (60 // k)]


def test_a_pin_of_a_later_page_comes_there(connection: psycopg.Connection) -> None:
    first = recommend(connection, "u6", 1)[0][0]
    topic = column(connection.execute("select attributes -> 'topic' from recdb.item where item_id = %s", [first]))[0]
    write(connection, "", ({"topic": topic}, None, 25))
    assert here(connection, "u6", 40)[24] == first
    assert first not in here(connection, "u6", 20)
    assert pages(connection, "u6", 20, 2)[24] == first


def test_pins_lose_no_item(connection: psycopg.Connection) -> None:
    """Two with one place come one after the other; one beyond the end of the list comes last."""
    plain = [row[0] for row in recommend(connection, "u6", 1000)]
    write(connection, "", ({"topic": 1}, None, 2), ({"topic": 2}, None, 2), ({"topic": 0}, None, 900))
    rows = recommend(connection, "u6", 1000, scenario="here")
    assert sorted(row[0] for row in rows) == sorted(plain)
    pinned = [place for place, row in enumerate(rows, 1) if row[2] == "pinned"]
    assert pinned == [2, 3, len(plain)]
    few = [row[0] for row in recommend(connection, "u6", 5)]
    assert sorted(here(connection, "u6", 20, among=few)) == sorted(few)


def test_pins_keep_to_the_limits(connection: psycopg.Connection) -> None:
    owner = column(connection.execute(
        "select owner_id from recdb.item where item_id = %s", [recommend(connection, "u6", 1)[0][0]]))[0]  # fmt: skip
    connection.execute(
        "update recdb.item set attributes = attributes || '{\"mine\": true}' where owner_id = %s", [owner]
    )
    write(connection, "max_per_owner = 1", ({"mine": True}, None, 1), ({"mine": True}, None, 2))
    assert [row[2] for row in recommend(connection, "u6", 5, scenario="here")].count("pinned") == 1


@pytest.mark.parametrize(("factor", "place"), [(None, 1), (1e6, None)])
@pytest.mark.parametrize("condition", [{"campaign": "xmas"}, '$.campaign == "xmas"'])
def test_a_campaign_comes_before_anybody_has_touched_its_item(
    connection: psycopg.Connection, factor: float | None, place: int | None, condition: Any
) -> None:
    connection.execute(
        "insert into recdb.item (item_id, attributes, published_at, available) values "
        '(\'new\', \'{"campaign": "xmas", "topic": 1}\', now(), true), '
        "('gone', '{\"campaign\": \"xmas\"}', now(), false)"
    )
    write(connection, "", (condition, factor, place))
    reason = "pinned" if place else "boosted"
    for user, fallback in (("u6", "none"), ("u6", "popular"), ("nobody", "popular")):
        rows = recommend(connection, user, 5, fallback=fallback, scenario="here")
        assert [row[2] for row in rows if row[0] == "new"] == [reason]
        assert place != 1 or rows[0][0] == "new"
        assert "gone" not in {row[0] for row in rows} and len(rows) == 5
        assert rows == sorted(rows, key=lambda row: (-row[1], row[0]))
    assert here(connection, "nobody", 5) == []
    assert "new" not in here(connection, "u6", 5, exclude=["new"])
    assert "new" not in here(connection, "u6", 5, among=[row[0] for row in recommend(connection, "u6", 9)])
    connection.execute("update recdb.scenario set filter = '{\"topic\": 2}' where name = 'here'")
    assert "new" not in here(connection, "u6", 5)


def test_many_candidates_are_steered_like_few(connection: psycopg.Connection) -> None:
    """Also if nobody knows most of them."""
    few = column(connection.execute("select item_id from recdb.item order by hashtext(item_id) limit 60"))
    unknown = [f"unknown{number}" for number in range(2000)]
    write(connection, "freshness = '9 days', max_per_owner = 1, pool = 20", ({"topic": 1}, 3, None))
    for fallback in ("none", "popular"):
        expected = recommend(connection, "u6", 30, among=few, fallback=fallback, scenario="here")
        rows = recommend(connection, "u6", 30, among=few + unknown, fallback=fallback, scenario="here")
        assert rows == expected != []
    connection.execute("update recdb.scenario set explore = 1 where name = 'here'")
    connection.execute("call recdb.refresh()")
    explored = recommend(connection, "u6", 5, among=few + unknown, scenario="here")
    assert {row[2] for row in explored} == {"explored"} and {row[0] for row in explored} <= set(few)


def test_scores_of_nothing_keep_the_order(connection: psycopg.Connection) -> None:
    everything = [row[0] for row in recommend(connection, "u6", 1000)]
    connection.execute("select recdb.impressions('u6', %s::text[])", [everything])
    write(connection, "rotation_rate = 1, rotation_time = '900 years'", ({"topic": 2}, None, 2))
    rows = recommend(connection, "u6", 1000, scenario="here")
    assert len(rows) == len(everything) and rows[1][2] == "pinned"
    assert rows == sorted(rows, key=lambda row: (-row[1], row[0]))
    assert rows[-1][1] > 0
    batch = connection.execute(
        "select item_id from recdb.recommend_batch(array['u6'], 9, scenario => 'here') order by rank"
    ).fetchall()
    assert [row[0] for row in batch] == [row[0] for row in rows[:9]]


@pytest.mark.parametrize("factor", [1e6, 1e-6])
def test_any_number_of_rules_may_overlap(connection: psycopg.Connection, factor: float) -> None:
    write(connection, "freshness = '1 second', rotation_rate = .5", *[({}, factor, None)] * 60)
    rows = recommend(connection, "u6", 10, scenario="here", fallback="popular")
    assert len(rows) == 10 and all(0 < row[1] <= 1 for row in rows)


def test_the_smallest_numbers_change_nothing(connection: psycopg.Connection) -> None:
    plain = [row[:2] for row in recommend(connection, "u6", 40)]
    connection.execute(
        "select recdb.impressions('u6', %s::text[], shown_at => now() - interval '40 days')",
        [[row[0] for row in plain]],
    )
    write(
        connection, "diversity = 5e-324, rotation_rate = 5e-324, explore = 5e-324, minimum_score = 5e-324, "
        "freshness = '1000 years'",
    )  # fmt: skip
    rows = recommend(connection, "u6", 40, scenario="here")
    assert [row[0] for row in rows] == [row[0] for row in plain]


def test_some_explored_places_are_no_list(connection: psycopg.Connection) -> None:
    write(connection, "explore = .4")
    connection.execute("call recdb.refresh()")
    assert here(connection, "nobody", 20) == []
    assert len(here(connection, "nobody", 20, fallback="popular")) == 20


def test_equal_numbers_are_one_value(connection: psycopg.Connection) -> None:
    """However the catalogue writes them, alone and in a list: a JSON number keeps the zeros after its point."""
    connection.execute(
        "update recdb.item set attributes = attributes || case substr(item_id, 2)::integer % 4 "
        "when 0 then '{\"size\": 1}' when 1 then '{\"size\": 1.0}' when 2 then '{\"size\": [1.00]}' "
        "else '{\"size\": [10e-1, null]}' end::jsonb"
    )
    write(connection, "max_per_attribute = 'size', max_per_number = 3, fallback = 'popular'", ({"size": 1.0}, None, 2))
    for options in ({}, {"exclude": ["i4"]}, {"exclude": ["i5", "i6"]}):
        assert len(here(connection, "u6", 20, **options)) == 3 - len(options.get("exclude", []))
    connection.execute("update recdb.scenario set explore = 1 where name = 'here'")
    connection.execute("call recdb.refresh()")
    assert len(here(connection, "u6", 20)) == 3


def test_no_page_begins_beyond_the_end(connection: psycopg.Connection) -> None:
    """Of a rule that pins further down than the list is long, one item comes last, whatever the pages."""
    connection.execute(
        "insert into recdb.item (item_id, attributes) select 'new' || n, '{\"topic\": 7}' from generate_series(1, 4) n"
    )
    for columns in (
        "max_per_attribute = 'topic', max_per_number = 3, minimum_score = .2",
        "filter = '\"$.topic == 1 || $.topic == 7\"', minimum_score = .2",
    ):
        write(connection, columns, ({"topic": 7}, None, 30), ({"topic": 1}, None, 40))
        long = here(connection, "u6", 60)
        assert [row[2] for row in recommend(connection, "u6", 60, scenario="here")][-1] == "pinned"
        assert len([item for item in long if item.startswith("new")]) == 1
        for k in (1, 3, len(long)):
            assert pages(connection, "u6", k, 45 // k + 1) == long
        connection.execute("delete from recdb.scenario where name = 'here'")
