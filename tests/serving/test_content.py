"""Items that nobody has touched, and items that are newer than the model: recommend() ranks them by their content."""

from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg.types.json import Jsonb
from support.data import recommend, record, tastes, train

from recdb.database import Database

GROUPS, USERS, ITEMS, UNTOUCHED = 3, 120, 90, 12


def describe(number: int) -> tuple[str, str, str, Jsonb]:
    """What an item is like: users whose number leaves the same remainder by 3 like it."""
    group = number % GROUPS
    attributes = {"topic": f"topic {group}", "tags": [f"tag {group}", f"tag {number % 7}"], "price": number}
    return (
        f"i{number}",
        f"author {number % 9}",
        f"A post about {('apples', 'bees', 'clouds')[group]}",
        Jsonb(attributes),
    )


def add_items(connection: psycopg.Connection, rows: list[tuple[Any, ...]]) -> None:
    connection.cursor().executemany(
        "insert into recdb.item (item_id, owner_id, title, attributes) values (%s, %s, %s, %s)", rows
    )


@pytest.fixture(scope="module", autouse=True)
def trained(module_database: Database) -> None:
    """i0 to i89 have interactions, i90 to i101 are in the catalogue only; one user touched "early" and "plain"."""
    with psycopg.connect(module_database.conninfo, autocommit=True) as connection:
        record(connection, tastes(users=USERS, items=ITEMS, per_user=15, groups=GROUPS))
        record(connection, [["u1", "early", "like"], ["u1", "plain", "like"]])
        add_items(connection, [describe(number) for number in range(ITEMS + UNTOUCHED)])
        add_items(connection, [("early", *describe(1)[1:])])
    train(module_database, dimension=16)


def places(connection: psycopg.Connection, item: str, users: list[str], k: int = 50) -> list[int]:
    """The item's place in the users' lists, k + 1 where it is in none of the first k."""
    lists = [[row[0] for row in recommend(connection, user, k)] for user in users]
    return [found.index(item) + 1 if item in found else k + 1 for found in lists]


def users_of(group: int, count: int = 20) -> list[str]:
    return [f"u{number}" for number in range(group, USERS, GROUPS)][:count]


def test_what_nobody_has_touched_is_ranked_by_its_content(shared: psycopg.Connection) -> None:
    for user in ("u0", "u1", "u2", "u40"):
        found = [row for row in recommend(shared, user, 200) if row[2] == "content"]
        assert {row[0] for row in found} <= {f"i{number}" for number in range(ITEMS, ITEMS + UNTOUCHED)}
        best = [int(row[0][1:]) % GROUPS for row in found[: UNTOUCHED // GROUPS]]
        assert best.count(int(user[1:]) % GROUPS) >= 3


def test_known_items_keep_their_scores_beside_new_ones(shared: psycopg.Connection) -> None:
    before = {row[0]: row[1] for row in recommend(shared, "u4", 200) if row[2] == "collaborative_filtering"}
    add_items(shared, [("fresh", None, None, Jsonb({"topic": "topic 1", "tags": ["tag 1"]}))])
    after = {row[0]: row[1] for row in recommend(shared, "u4", 200) if row[2] == "collaborative_filtering"}
    top = max(after.values())
    assert {item: score / top for item, score in after.items()} == pytest.approx(before, abs=1e-8)


def test_what_nobody_has_touched_takes_few_of_the_first_places(shared: psycopg.Connection) -> None:
    reasons = [row[2] for number in range(USERS) for row in recommend(shared, f"u{number}", 20)]
    assert 0 < reasons.count("content") + 1 < 0.05 * len(reasons)


@pytest.mark.parametrize("refreshed", [False, True], ids=["at once", "after a refresh"])
def test_an_item_added_after_the_training_reaches_those_who_like_what_it_is_like(
    shared: psycopg.Connection, refreshed: bool
) -> None:
    if refreshed:  # as in an attached table: no trigger tells of it
        shared.execute("alter table recdb.item disable trigger link_added_items")
    add_items(shared, [("fresh", "author 4", "A post about bees", Jsonb({"topic": "topic 1", "tags": ["tag 1"]}))])
    if refreshed:
        assert min(places(shared, "fresh", users_of(1))) == 51
        shared.execute("select recdb.refresh_changed()")
    fans, others = places(shared, "fresh", users_of(1)), places(shared, "fresh", users_of(0) + users_of(2))
    assert np.median(fans) <= 40 < np.median(others)
    row = next(row for row in recommend(shared, "u1", 50) if row[0] == "fresh")
    assert row[2] == "content"


def test_new_items_of_a_topic_are_not_in_the_lists_of_those_who_like_another(shared: psycopg.Connection) -> None:
    add_items(shared, [(f"fresh{number}", *describe(1 + 3 * number)[1:]) for number in range(12)])
    fans = [row[0] for user in users_of(1) for row in recommend(shared, user, 50)]
    others = [row[0] for user in users_of(0) + users_of(2) for row in recommend(shared, user, 20)]
    assert sum(item.startswith("fresh") for item in fans) >= len(users_of(1))
    assert sum(item.startswith("fresh") for item in others) < 0.05 * len(others)


def test_what_one_user_touched_is_also_ranked_by_its_content(shared: psycopg.Connection) -> None:
    fans = [user for user in users_of(1) if user != "u1"]
    early, plain = places(shared, "early", fans, 200), places(shared, "plain", fans, 200)
    assert np.median(early) < np.median(plain)
    row = next(row for user in fans for row in recommend(shared, user, 200) if row[0] == "early")
    assert row[2] == "collaborative_filtering"


def test_a_new_item_reaches_those_who_like_its_author(shared: psycopg.Connection) -> None:
    author = "author 4"  # of i4, i13, i22, ...: of group 1 only
    add_items(shared, [("fresh", author, None, Jsonb({}))])
    fans, others = places(shared, "fresh", users_of(1), 200), places(shared, "fresh", users_of(0), 200)
    assert np.median(fans) <= 50 < np.median(others)


def test_an_item_of_which_nothing_is_known_is_in_no_list(shared: psycopg.Connection) -> None:
    add_items(shared, [("strange", "somebody", "Xylophone", Jsonb({"unheard": "of"})), ("bare", None, None, Jsonb({}))])
    shared.execute("select recdb.refresh_changed()")
    assert set(places(shared, "strange", users_of(0))) == {51} == set(places(shared, "bare", users_of(1)))


def test_hidden_new_items_stay_hidden(shared: psycopg.Connection) -> None:
    rows = [
        (f"fresh{number}", "author 4", "bees", Jsonb({"topic": "topic 1", "tags": ["tag 1"]})) for number in range(4)
    ]
    add_items(shared, rows)
    shared.execute("update recdb.item set available = false where item_id = 'fresh0'")
    shared.execute("update recdb.item set published_at = now() + interval '1 hour' where item_id = 'fresh1'")
    shared.execute("update recdb.item set owner_id = 'u1' where item_id = 'fresh2'")
    found = {row[0] for row in recommend(shared, "u1", 200)}
    assert found & {row[0] for row in rows} == {"fresh3"}


def test_a_user_whose_only_item_is_new_gets_what_is_like_it(shared: psycopg.Connection) -> None:
    add_items(shared, [("fresh", "author 4", "A post about bees", Jsonb({"topic": "topic 1", "tags": ["tag 1"]}))])
    shared.execute("select recdb.track('newcomer', 'fresh', 'like')")
    best = [int(row[0][1:]) % GROUPS for row in recommend(shared, "newcomer", 10)]
    assert best.count(1) >= 8


def test_a_large_load_waits_for_the_refresh(shared: psycopg.Connection) -> None:
    shared.execute(
        "insert into recdb.item (item_id, attributes) select 'many' || n, '{\"topic\": \"topic 1\"}' "
        "from generate_series(1, 30) n"
    )
    assert not [row for row in recommend(shared, "u1", 200) if row[0].startswith("many")]
    shared.execute("select recdb.refresh_changed()")
    assert len([row for row in recommend(shared, "u1", 200) if row[0].startswith("many")]) == 30


def test_the_explanation_of_a_new_item_names_what_it_is_like_and_its_author(shared: psycopg.Connection) -> None:
    add_items(shared, [("fresh", "author 4", "A post about bees", Jsonb({"topic": "topic 1", "tags": ["tag 1"]}))])
    owners = dict(shared.execute("select item_id, owner_id from recdb.item").fetchall())
    for item in ("fresh", "i91", "i94", "i97"):
        for user in users_of(1, 6):
            row = next((row for row in recommend(shared, user, 200) if row[0] == item), None)
            parts = shared.execute("select * from recdb.explain(%s, %s)", [user, item]).fetchall()
            assert sum(part[2] for part in parts) == pytest.approx(row[1] if row else 0, abs=1e-6)
            for source, because, _ in parts:
                assert source == ("author" if owners[because] == owners[item] else "content")


def test_similar_items_know_new_items(shared: psycopg.Connection) -> None:
    add_items(shared, [("fresh", "author 4", "A post about bees", Jsonb({"topic": "topic 1", "tags": ["tag 1"]}))])
    for item in ("fresh", "i91"):
        found = shared.execute("select * from recdb.similar_items(%s, 10)", [item]).fetchall()
        assert [int(name[1:]) % GROUPS for name, _ in found].count(1) >= 9
        assert [row[1] for row in found] == sorted((row[1] for row in found), reverse=True)
        assert all(0 < row[1] <= 1.000001 for row in found)


def test_a_share_of_zero_ranks_no_content(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes(users=60))
    add_items(db, [describe(number) for number in range(70)])
    db.execute("update recdb.config set content_share = 0")
    train(database, dimension=8)
    add_items(db, [describe(number) for number in range(70, 75)])
    db.execute("call recdb.refresh()")
    assert {row[2] for user in ("u0", "u1") for row in recommend(db, user, 200)} == {"collaborative_filtering"}
    assert db.execute("select count(*) from recdb.item_link").fetchone() == (0,)


def test_the_next_training_knows_new_items_and_forgets_the_old_versions_links(
    database: Database, db: psycopg.Connection
) -> None:
    record(db, tastes(users=60))
    add_items(db, [describe(number) for number in range(60)])
    db.execute("update recdb.config set kept_models = 1")
    train(database, dimension=8)
    add_items(db, [describe(number) for number in range(60, 65)])
    record(db, [[f"u{number}", "i60", "like"] for number in range(0, 60, 3)])
    label = train(database, dimension=8)
    assert (
        db.execute("select distinct model_id from recdb.content_vector").fetchall()
        == db.execute("select model_id from recdb.model where label = %s", [label]).fetchall()
    )
    reasons = {row[0]: row[2] for user in ("u0", "u1", "u2") for row in recommend(db, user, 200)}
    assert reasons.get("i60", "collaborative_filtering") == "collaborative_filtering"
    assert db.execute("select count(*) from recdb.item_link").fetchone() == (0,)
