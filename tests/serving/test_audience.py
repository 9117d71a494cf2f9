"""audience(): the users that an item should be sent to, as their own lists have it."""

from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg.types.json import Jsonb
from support.data import column, recommend, record, train

from recdb.database import Database

TOPICS, USERS, ITEMS, UNTOUCHED = 20, 400, 400, 20
WORDS = ("apples", "bees", "clouds", "drums", "eels", "ferns", "goats", "hats", "ice", "jam",
         "kites", "lamps", "maps", "nuts", "oars", "pens", "quilts", "roads", "sails", "tea")  # fmt: skip


def describe(item: str, topic: int) -> tuple[str, str, Jsonb]:
    return item, f"A post about {WORDS[topic]}", Jsonb({"topic": WORDS[topic]})


def add_items(connection: psycopg.Connection, rows: list[tuple[Any, ...]]) -> None:
    connection.cursor().executemany("insert into recdb.item (item_id, title, attributes) values (%s, %s, %s)", rows)


@pytest.fixture(scope="module", autouse=True)
def trained(module_database: Database) -> None:
    """400 users of two topics each, out of 20, with a long tail; i400 to i419 are in the catalogue only."""
    generator = np.random.default_rng(0)
    rows = []
    for user in range(USERS):
        first, second = generator.choice(TOPICS, 2, replace=False)
        items = set()
        for _ in range(int(generator.integers(10, 40))):
            topic = (
                first if generator.random() < 0.6 else second if generator.random() < 0.7 else generator.integers(20)
            )
            items.add(int(topic + TOPICS * int(ITEMS / TOPICS * generator.random() ** 2)))
        rows += [[f"u{user}", f"i{item}", "like"] for item in sorted(items)]
    with psycopg.connect(module_database.conninfo, autocommit=True) as connection:
        record(connection, rows)
        add_items(connection, [describe(f"i{item}", item % TOPICS) for item in range(ITEMS + UNTOUCHED)])
    train(module_database, dimension=32)


def audience(connection: psycopg.Connection, item: str | None, k: int | None = None) -> dict[str, float]:
    rows = connection.execute("select * from recdb.audience(%s::text, %s::bigint)", [item, k]).fetchall()
    assert rows == sorted(rows, key=lambda row: (-row[1], row[0]))
    return dict(rows)


def touched(connection: psycopg.Connection, item: str) -> set[str]:
    return set(column(connection.execute("select user_id from recdb.interaction where item_id = %s", [item])))


def fans(connection: psycopg.Connection, topic: int) -> list[str]:
    """The users who have most items of a topic, the keenest first."""
    return column(connection.execute(
        "select user_id from recdb.interaction where substr(item_id, 2)::int %% 20 = %s group by user_id "
        "order by count(*) desc, user_id limit 60", [topic]))  # fmt: skip


def test_the_audience_are_users_in_whose_lists_the_item_is(shared: psycopg.Connection) -> None:
    lists: dict[str, dict[str, float]] = {}
    for user, item, score in shared.execute(
        "select user_id, item_id, score from recdb.recommend_batch(array(select user_id from recdb.user_key), 10)"
    ):
        lists.setdefault(item, {})[user] = score
    shares, best = [], []
    for item in sorted(item for item, users in lists.items() if len(users) >= 15)[:8]:
        found = audience(shared, item, 15)
        assert len(found) == 15 and not set(found) & touched(shared, item)
        own = {user: lists[item][user] for user in set(found) & set(lists[item])}
        assert own == {user: pytest.approx(found[user], abs=1e-8) for user in own}
        shares.append(len(own) / 15)
        highest = sorted(lists[item].values(), reverse=True)[14]
        best.append(sum(score >= highest - 1e-9 for score in found.values()) / 15)
    assert len(shares) == 8
    assert np.mean(shares) >= 0.9
    assert np.mean(best) >= 0.9


def test_the_score_is_that_of_the_users_own_list(shared: psycopg.Connection) -> None:
    for user, score in audience(shared, "i3", 5).items():
        scores = {row[0]: row[1] for row in recommend(shared, user, 1000)}
        assert scores["i3"] == pytest.approx(score, abs=1e-8)


def test_who_touches_the_item_leaves_its_audience_at_once(shared: psycopg.Connection) -> None:
    shared.execute("insert into recdb.interaction_kind (kind, weight, hides) values ('peek', 0.1, false)")
    first, second, third = list(audience(shared, "i3", 3))
    shared.execute("select recdb.track(%s, 'i3', 'like')", [first])
    shared.execute("select recdb.track(%s, 'i3', 'peek')", [second])

    found = audience(shared, "i3")

    assert third in found and not {first, second} & set(found)


def test_who_is_forgotten_or_ignored_is_in_no_audience(shared: psycopg.Connection) -> None:
    first, second, third = list(audience(shared, "i3", 3))
    shared.execute("select recdb.forget_user(%s)", [first])
    shared.execute("insert into recdb.ignored_user (user_id) values (%s)", [second])

    found = audience(shared, "i3")

    assert third in found and not {first, second} & set(found)


def test_the_owner_is_not_told_of_the_own_item(shared: psycopg.Connection) -> None:
    first, second = list(audience(shared, "i3", 2))
    shared.execute("update recdb.item set owner_id = %s where item_id = 'i3'", [first])

    assert second in audience(shared, "i3") and first not in audience(shared, "i3")


@pytest.mark.parametrize(
    "change", ["available = false", "published_at = now() + interval '1 day'"], ids=["sold out", "later"]
)
def test_what_nobody_gets_has_no_audience(shared: psycopg.Connection, change: str) -> None:
    assert audience(shared, "i3")
    shared.execute(f"update recdb.item set {change} where item_id = 'i3'")
    assert audience(shared, "i3") == {}


def test_an_item_that_nobody_has_touched_has_an_audience_by_its_content(shared: psycopg.Connection) -> None:
    add_items(shared, [describe("fresh", 3)])
    for item in ("fresh", "i403"):
        found = audience(shared, item, 20)
        assert len(found) == 20
        assert len(set(found) & set(fans(shared, 3))) >= 15


def test_an_item_that_a_few_have_touched_since_has_an_audience_by_them(shared: psycopg.Connection) -> None:
    keenest = fans(shared, 3)
    record(shared, [[user, "found", "like"] for user in keenest[::3]])
    shared.execute("select recdb.refresh_changed()")

    found = audience(shared, "found", 20)

    assert len(set(found) & set(keenest) - set(keenest[::3])) >= 12
    assert not set(found) & set(keenest[::3])


def test_an_item_of_which_nothing_is_known_has_none(shared: psycopg.Connection) -> None:
    for item in ("nothing", "", None):
        assert audience(shared, item) == {}
    shared.execute("select recdb.track('u1', 'just now', 'like')")
    assert audience(shared, "just now") == {}


def test_before_the_first_training_there_is_none(db: psycopg.Connection) -> None:
    record(db, [["u1", "i1", "like"]])
    db.execute("call recdb.refresh()")
    assert audience(db, "i1") == {}


def test_k_is_the_number_of_users(shared: psycopg.Connection) -> None:
    everybody = audience(shared, "i3", 300)
    assert list(audience(shared, "i3", 7)) == list(everybody)[:7]
    usual = audience(shared, "i3")
    assert len(usual) == 50 and len(set(usual) & set(list(everybody)[:50])) >= 45
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="k is 1001"):
        audience(shared, "i3", 1001)
