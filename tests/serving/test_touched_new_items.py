"""Items that are newer than the model: after a refresh, recommend() ranks them also by who touched them."""

import numpy as np
import psycopg
import pytest
from support.data import recommend, record, train

from recdb.database import Database


def places(connection: psycopg.Connection, item: str, users: list[str], k: int = 50) -> list[int]:
    """The item's place in the users' lists, k + 1 where it is in none of the first k."""
    lists = [[row[0] for row in recommend(connection, user, k)] for user in users]
    return [found.index(item) + 1 if item in found else k + 1 for found in lists]


def fans(connection: psycopg.Connection, topic: int, count: int = 60) -> list[str]:
    """The users who have most items of a topic, the keenest first."""
    rows = connection.execute(
        "select user_id from recdb.interaction where substr(item_id, 2)::int %% 20 = %s and user_id <> 'newcomer' "
        "group by user_id order by count(*) desc, user_id limit %s",
        [topic, count],
    )
    return [row[0] for row in rows]


def history() -> list[list[str]]:
    """1,000 users of two topics each, out of 20, with a long tail; no catalogue."""
    generator = np.random.default_rng(0)
    rows = []
    for user in range(1000):
        first, second = generator.choice(20, 2, replace=False)
        items = set()
        for _ in range(int(generator.integers(10, 45))):
            topic = (
                first if generator.random() < 0.6 else second if generator.random() < 0.6 else generator.integers(20)
            )
            items.add(int(topic + 20 * int(50 * generator.random() ** 2)))
        rows += [[f"u{user}", f"i{item}", "like"] for item in sorted(items)]
    return rows


@pytest.fixture(scope="module", autouse=True)
def trained(module_database: Database) -> None:
    with psycopg.connect(module_database.conninfo, autocommit=True) as connection:
        record(connection, history())
    train(module_database, dimension=64)


def test_what_half_of_the_fans_like_reaches_the_others_after_a_refresh(shared: psycopg.Connection) -> None:
    keenest = fans(shared, 3)
    record(shared, [[user, "fresh", "like"] for user in keenest[::2]])
    shared.execute("select recdb.refresh_changed()")
    assert sum(place <= 50 for place in places(shared, "fresh", keenest[1::2])) >= 24
    everybody = places(shared, "fresh", [f"u{number}" for number in range(0, 1000, 10)])
    assert sum(place <= 50 for place in everybody) <= 30


@pytest.mark.parametrize("learner", ["cooccurrence", "ease"])
def test_what_fans_like_does_not_flood_the_lists_of_others(
    database: Database, db: psycopg.Connection, learner: str
) -> None:
    """A training keeps few neighbors of an item: small weights of many items must not lead to a new one."""
    record(db, history())
    train(database, dimension=64, item_neighbors=12, learner=learner)
    keenest = fans(db, 3)
    record(db, [[user, "fresh", "like"] for user in keenest[::2]])
    db.execute("select recdb.refresh_changed()")
    assert sum(place <= 50 for place in places(db, "fresh", keenest[1::2])) >= 24
    others = [f"u{number}" for number in range(0, 1000, 10) if f"u{number}" not in keenest]
    assert sum(place <= 50 for place in places(db, "fresh", others)) <= 15


def test_what_one_user_touches_reaches_nobody_else_by_the_refresh(shared: psycopg.Connection) -> None:
    keenest = fans(shared, 3)
    record(shared, [[keenest[0], "lonely", "like"] for _ in range(500)])
    record(shared, [["bot", f"i{number}", "like"] for number in range(1000)])
    record(shared, [["bot", "pushed", "share"] for _ in range(500)])
    shared.execute("select recdb.refresh_changed()")
    users = [f"u{number}" for number in range(0, 1000, 10)]
    for item in ("lonely", "pushed"):
        assert sum(place <= 50 for place in places(shared, item, users)) <= 5
