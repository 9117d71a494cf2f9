"""Items that a model version does not know follow the catalogue and their users: content, likes, deletion."""

from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb
from support.data import column, recommend, record, tastes, train

from recdb.database import Database

GROUPS, USERS, ITEMS, UNTOUCHED = 3, 90, 90, 12

Content = tuple[str, str, Jsonb]


def content(number: int) -> Content:
    """What an item is like: users whose number leaves the same remainder by 3 like it."""
    group = number % GROUPS
    attributes = {"topic": f"topic {group}", "tags": [f"tag {group}", f"tag {number % 7}"]}
    return f"author {number % 9}", f"A post about {('apples', 'bees', 'clouds')[group]}", Jsonb(attributes)


def add(connection: psycopg.Connection, item: str, like: Content | None, **columns: Any) -> None:
    names = ["item_id", "owner_id", "title", "attributes", *columns]
    values = [item, *(like or (None, None, Jsonb({}))), *columns.values()]
    places = ", ".join(["%s"] * len(names))
    connection.execute(f"insert into recdb.item ({', '.join(names)}) values ({places})", values)


def change(connection: psycopg.Connection, item: str, like: Content) -> None:
    connection.execute(
        "update recdb.item set owner_id = %s, title = %s, attributes = %s where item_id = %s", [*like, item]
    )


def refresh(connection: psycopg.Connection) -> None:
    connection.execute("select recdb.refresh_changed()")


def unseen(connection: psycopg.Connection) -> None:
    """As in an attached table: no trigger tells of what changes."""
    connection.execute("alter table recdb.item disable trigger user")


def fans(group: int) -> list[str]:
    return [f"u{number}" for number in range(group, 30, GROUPS)]


def reached(connection: psycopg.Connection, item: str, group: int, k: int = 50) -> int:
    """How many of ten fans of a group have the item in their lists."""
    return sum(item in [row[0] for row in recommend(connection, user, k)] for user in fans(group))


def is_meant_for(connection: psycopg.Connection, item: str, group: int, other: int) -> bool:
    """Whether an item is in most lists of a group, and in few lists of another one."""
    return reached(connection, item, group) >= 6 and reached(connection, item, other) <= 2


@pytest.fixture(scope="module", autouse=True)
def trained(module_database: Database) -> None:
    """i0 to i89 have interactions, i90 to i101 are in the catalogue only, and two items wait to be recommended."""
    with psycopg.connect(module_database.conninfo, autocommit=True) as connection:
        record(connection, tastes(users=USERS, items=ITEMS, per_user=15, groups=GROUPS))
        for number in range(ITEMS + UNTOUCHED):
            add(connection, f"i{number}", content(number))
        add(connection, "scheduled", content(4), published_at="2999-01-01")
        add(connection, "sold out", content(4), available=False)
    train(module_database, dimension=16)


def test_an_item_that_was_scheduled_at_the_training_is_in_lists_from_its_date_on(shared: psycopg.Connection) -> None:
    assert reached(shared, "scheduled", 1) == 0
    shared.execute("update recdb.item set published_at = now() where item_id = 'scheduled'")
    assert is_meant_for(shared, "scheduled", 1, other=0)


@pytest.mark.parametrize("among", [None, [f"i{number}" for number in range(ITEMS + UNTOUCHED)]], ids=["all", "among"])
def test_a_list_asks_once_which_of_its_items_are_new(shared: psycopg.Connection, among: list[str] | None) -> None:
    shared.execute("set local track_functions = 'all'")
    rows = shared.execute(
        "select item_id, reason from recdb.recommend(%s, 50, among => %s::text[])", [fans(1)[0], among]
    ).fetchall()

    untouched = {f"i{number}" for number in range(ITEMS, ITEMS + UNTOUCHED)} | {"scheduled", "sold out"}
    new = {item for item, _ in rows} & untouched
    assert new and {item for item, reason in rows if reason == "content"} == new
    calls = column(shared.execute("select calls from pg_stat_xact_user_functions where funcname = 'content_items'"))
    assert calls == [1]


@pytest.mark.parametrize("attached", [False, True], ids=["recdb.item", "as in an attached table"])
def test_an_item_that_was_unavailable_at_the_training_comes_back(shared: psycopg.Connection, attached: bool) -> None:
    if attached:
        unseen(shared)
    refresh(shared)
    shared.execute("update recdb.item set available = true where item_id = 'sold out'")
    if attached:
        refresh(shared)
    assert is_meant_for(shared, "sold out", 1, other=0)


@pytest.mark.parametrize("attached", [False, True], ids=["recdb.item", "as in an attached table"])
def test_a_new_item_is_ranked_by_its_present_content(shared: psycopg.Connection, attached: bool) -> None:
    def settle() -> None:
        if attached:
            refresh(shared)

    if attached:
        unseen(shared)
    add(shared, "fresh", None)
    settle()
    assert reached(shared, "fresh", 1) == 0
    change(shared, "fresh", content(1))
    settle()
    assert reached(shared, "fresh", 1) >= 6
    change(shared, "fresh", content(2))
    settle()
    assert is_meant_for(shared, "fresh", 2, other=1)
    shared.execute("delete from recdb.item where item_id = 'fresh'")
    settle()
    add(shared, "fresh", content(3))
    settle()
    assert is_meant_for(shared, "fresh", 0, other=2)


def test_what_nobody_had_touched_at_the_training_follows_its_content(shared: psycopg.Connection) -> None:
    assert reached(shared, "i91", 1, 100) >= 6
    change(shared, "i91", content(2))
    refresh(shared)
    assert is_meant_for(shared, "i91", 2, other=1)
    rows = shared.execute("select neighbor_id from recdb.similar_items('i91', 5)").fetchall()
    assert {int(item[1:]) % GROUPS for (item,) in rows} == {2}


def test_the_content_of_an_item_that_users_touched_first_counts(shared: psycopg.Connection) -> None:
    for user in ("u0", "u2"):
        shared.execute("select recdb.track(%s, 'fresh', 'like')", [user])
    refresh(shared)
    before = reached(shared, "fresh", 1)
    add(shared, "fresh", content(1))
    assert reached(shared, "fresh", 1) >= max(6, before + 3)


def test_likes_that_are_taken_back_no_longer_rank_a_new_item(shared: psycopg.Connection) -> None:
    add(shared, "fresh", content(2))
    likers, others = [f"u{number}" for number in range(31, 89, 3)], fans(1)
    before = [recommend(shared, user) for user in others]
    for user in likers:
        shared.execute("select recdb.track(%s, 'fresh', 'like')", [user])
    refresh(shared)
    assert reached(shared, "fresh", 1) >= 9

    shared.execute("insert into recdb.ignored_user (user_id) select unnest(%s::text[])", [likers[:10]])
    refresh(shared)
    assert users_of(shared, "fresh") == len(likers) - 10
    for user in likers[10:14]:
        shared.execute("select recdb.forget_user(%s)", [user])
    assert users_of(shared, "fresh") == len(likers) - 14
    shared.execute("delete from recdb.interaction where item_id = 'fresh'")
    shared.execute("select recdb.rebuild()")
    assert users_of(shared, "fresh") == 0
    assert column(shared.execute("select count(*) from recdb.item_link where touched")) == [0]
    assert reached(shared, "fresh", 1) <= 2 + sum("fresh" in [row[0] for row in rows] for rows in before)
    row = next(row for user in fans(2) for row in recommend(shared, user) if row[0] == "fresh")
    assert row[2] == "content"


def users_of(connection: psycopg.Connection, item: str) -> int:
    """How many users rank a new item."""
    (found,) = column(
        connection.execute(
            "select n.users from recdb.new_item n join recdb.item_key using (item_key) where item_id = %s", [item]
        )
    )
    return int(found)


def test_bots_that_are_ignored_no_longer_lift_an_item_that_nobody_else_touched(shared: psycopg.Connection) -> None:
    for bot in range(10):
        for item in ("i1", "i4", "i7", "i10", "spam"):
            shared.execute("select recdb.track(%s, %s, 'like')", [f"bot{bot}", item])
    refresh(shared)
    assert reached(shared, "spam", 1) >= 6
    shared.execute("insert into recdb.ignored_user (user_id) select 'bot' || n from generate_series(0, 9) n")
    refresh(shared)
    assert reached(shared, "spam", 1) == 0


def test_many_new_items_leave_a_list_as_short_to_compute(shared: psycopg.Connection) -> None:
    assert shared.execute("select ranks_new_items, has_links from recdb.serving(null)").fetchone() == (True, False)
    for number in range(300, 300 + 150):
        add(shared, f"new{number}", content(number))
    refresh(shared)
    most = "select max(n), bool_or(n = 100) from (select count(*) n from recdb.item_link group by source_key) s"
    assert shared.execute(most).fetchone() == (100, True)
    linked = (
        "select count(distinct item_key) from recdb.item_link join recdb.item_key using (item_key) "
        "where item_id like 'new%'"
    )
    assert column(shared.execute(linked)) == [150]


def test_the_last_arrivals_are_placed_first_and_every_fourth_has_waited_longest(shared: psycopg.Connection) -> None:
    unseen(shared)
    old = "select 'old' || n, 'bees', '{\"topic\": \"topic 1\"}'::jsonb from generate_series(1, 60) n"
    shared.execute(f"insert into recdb.item (item_id, title, attributes) {old}")
    shared.execute(
        "insert into recdb.arrived_item select 'old' || n, now() - n * interval '1 day' from generate_series(1, 60) n"
    )
    change(shared, "i91", content(2))
    shared.execute(f"insert into recdb.item (item_id, title, attributes) {old.replace('old', 'v')}")
    (due,) = column(shared.execute("select recdb.due_items(40)"))
    assert due[3:40:4] == [f"old{number}" for number in range(60, 50, -1)]
    assert sum(item.startswith("v") for item in due) == 30
    (due,) = column(shared.execute("select recdb.due_items(100)"))
    assert due.index("i91") < due.index("old1")
    refresh(shared)
    assert reached(shared, "old1", 1, 500) == 10


def test_a_statement_places_five_items_and_leaves_more_to_the_refresh(shared: psycopg.Connection) -> None:
    one = (
        "insert into recdb.item (item_id, attributes) "
        'select %s || n, \'{"topic": "topic 1"}\' from generate_series(1, %s) n'
    )
    shared.execute(one, ["five", 5])
    shared.execute(one, ["six", 6])
    large = {"topic": "topic 1", "values": [f"value {number}" for number in range(20_000)]}
    add(shared, "large", (None, None, Jsonb(large)))  # type: ignore[arg-type]
    assert [reached(shared, item, 1, 500) > 0 for item in ("five5", "six6", "large")] == [True, False, False]
    refresh(shared)
    assert [reached(shared, item, 1, 500) > 0 for item in ("five5", "six6")] == [True, True]


def test_similar_items_know_new_items_that_are_like_them(shared: psycopg.Connection) -> None:
    add(shared, "fresh", content(1))
    for item in ("i1", "i10"):
        found = shared.execute("select neighbor_id from recdb.similar_items(%s, 1000)", [item]).fetchall()
        assert ("fresh",) in found and ("i91",) in found
    add(shared, "bare", ("nobody", "Xylophone", Jsonb({})))
    assert shared.execute("select * from recdb.similar_items('bare', 3)").fetchall() == []


def test_similar_items_of_what_is_known_by_its_users_alone(shared: psycopg.Connection) -> None:
    for user in range(1, 60, 3):
        shared.execute("select recdb.track(%s, 'unlisted', 'like')", [f"u{user}"])
    refresh(shared)
    found = shared.execute("select * from recdb.similar_items('unlisted', 6)").fetchall()
    assert [int(item[1:]) % GROUPS for item, _ in found].count(1) >= 5
    assert all(-1 <= similarity <= 1 for _, similarity in found)


def test_an_item_that_nobody_touched_is_gone_when_it_is_deleted(shared: psycopg.Connection) -> None:
    add(shared, "fresh", content(1))
    assert reached(shared, "fresh", 1) and reached(shared, "i91", 1, 200)
    shared.execute("delete from recdb.item where item_id in ('fresh', 'i91', 'i1')")
    for _ in range(2):
        for item in ("fresh", "i91"):
            assert reached(shared, item, 1, 500) == 0
            assert shared.execute("select * from recdb.audience(%s, 10)", [item]).fetchall() == []
            assert shared.execute("select * from recdb.similar_items(%s, 10)", [item]).fetchall() == []
        found = shared.execute("select neighbor_id from recdb.similar_items('i4', 1000)").fetchall()
        assert not {("fresh",), ("i91",)} & set(found)
        refresh(shared)
    touched = [user for user in fans(1) if "i1" in [row[0] for row in recommend(shared, user, 200)]]
    assert touched  # users touched it: the catalogue does not list it, and need not
