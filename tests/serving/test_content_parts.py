"""What counts in the content of a new item: its embedding, its owner and its words, each alone."""

from collections.abc import Sequence

import numpy as np
import psycopg
import pytest
from psycopg.types.json import Jsonb
from support.data import recommend, record, tastes, train

from recdb.database import Database

GROUPS, USERS, ITEMS, WIDTH = 3, 120, 90, 8


def embedding(group: int, width: int = WIDTH, seed: int = 0) -> str:
    """An embedding near the centre of a group's."""
    centre = np.random.default_rng(99 + group).normal(size=width)
    return str((centre + np.random.default_rng(seed).normal(size=width) / 3).round(4).tolist())


@pytest.fixture(scope="module", autouse=True)
def trained(module_database: Database) -> None:
    """i0 to i89 have embeddings and titles of their group, and each of i1, i4, ... an owner of its own."""
    with psycopg.connect(module_database.conninfo, autocommit=True) as connection:
        record(connection, tastes(users=USERS, items=ITEMS, per_user=15, groups=GROUPS))
        connection.cursor().executemany(
            "insert into recdb.item (item_id, owner_id, title, attributes, embedding) values (%s, %s, %s, %s, %s)",
            [
                (
                    f"i{n}",
                    f"owner {n}" if n % GROUPS == 1 else f"author {n % GROUPS}",
                    f"About {('apples', 'bees', 'clouds')[n % GROUPS]}" + (" in Zanzibar" if n == 7 else ""),
                    Jsonb({"topic": f"topic {n % GROUPS}", "price": n}),
                    embedding(n % GROUPS, seed=n),
                )
                for n in range(ITEMS)
            ],
        )
    train(module_database, dimension=16)


def users_of(group: int, count: int = 20) -> list[str]:
    return [f"u{number}" for number in range(group, USERS, GROUPS)][:count]


def users_with(connection: psycopg.Connection, item: str) -> list[str]:
    """The users of an item who like its group."""
    found = connection.execute("select distinct user_id from recdb.interaction where item_id = %s", [item])
    return [user for (user,) in found if int(user[1:]) % GROUPS == int(item[1:]) % GROUPS]


def lists_with(connection: psycopg.Connection, items: Sequence[str], users: list[str], k: int = 50) -> int:
    """Count how often the items are in the users' lists."""
    return sum(row[0] in items for user in users for row in recommend(connection, user, k))


def test_an_embedding_of_another_width_counts_for_nothing(shared: psycopg.Connection) -> None:
    widths = (3, WIDTH - 1, WIDTH + 1, 32, 4000)
    for width in (*widths, WIDTH):
        shared.execute(
            "insert into recdb.item (item_id, embedding) values (%s, %s)", [f"w{width}", embedding(1, width, seed=7)]
        )
    everybody = [user for group in range(GROUPS) for user in users_of(group)]
    assert lists_with(shared, [f"w{width}" for width in widths], everybody, 200) == 0
    assert lists_with(shared, [f"w{WIDTH}"], users_of(1)) > lists_with(shared, [f"w{WIDTH}"], users_of(0))
    # Beside one of another width, what else the item has counts.
    shared.execute(
        "insert into recdb.item (item_id, attributes, embedding) values ('both', '{\"topic\": \"topic 1\"}', '[1, 2]')"
    )
    assert lists_with(shared, ["both"], users_of(1)) > lists_with(shared, ["both"], users_of(0))


@pytest.mark.parametrize(
    ("known", "owner", "title"), [("i4", "owner 4", None), ("i7", None, "Zanzibar")], ids=["owner", "word"]
)
def test_what_only_one_known_item_has_leads_to_the_users_of_that_item(
    shared: psycopg.Connection, known: str, owner: str | None, title: str | None
) -> None:
    shared.execute("insert into recdb.item (item_id, owner_id, title) values ('again', %s, %s)", [owner, title])
    fans = users_with(shared, known)
    strangers = users_of(0) + users_of(2)
    assert lists_with(shared, ["again"], fans) >= 0.5 * len(fans)
    assert lists_with(shared, ["again"], strangers) <= 0.1 * len(strangers)
    row = next(row for user in fans for row in recommend(shared, user, 50) if row[0] == "again")
    assert row[2] == "content"


def test_new_items_are_in_lists_for_every_share_of_the_parts(database: Database, db: psycopg.Connection) -> None:
    """Untouched ones and later ones, whether users or items alone rank, in about as many lists."""
    items, untouched, later = 120, list[int](), list[int]()
    record(db, tastes(users=200, items=items, per_user=20))
    insert = "insert into recdb.item (item_id, title, attributes) values (%s, %s, %s)"
    rows = [(f"i{n}", f"About {n % GROUPS}", Jsonb({"topic": f"topic {n % GROUPS}"})) for n in range(items + 6)]
    db.cursor().executemany(insert, rows)
    users = [f"u{n}" for n in range(40)]
    for blend in (0.3, 0.9, 1.0):
        train(database, dimension=16, blend=blend)
        db.execute("delete from recdb.item where item_id like 'later%'")
        new = [f"later{n} {blend}" for n in range(GROUPS)]
        db.cursor().executemany(insert, [(item, *row[1:]) for item, row in zip(new, rows, strict=False)])
        untouched.append(lists_with(db, [f"i{n}" for n in range(items, items + 6)], users))
        later.append(lists_with(db, new, users))
    assert min(untouched) > 0.5 * max(untouched) > 20, untouched
    assert min(later) > 0.5 * max(later) > 10, later
