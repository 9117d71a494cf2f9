"""Ids are any text: quoting, Unicode and length change nothing."""

import json
from uuid import NAMESPACE_OID, uuid5

import numpy as np
import psycopg
import pytest
from psycopg import sql
from support.data import column, recommend, record, tastes, train

from recdb.database import Database

AWKWARD = {
    "apostrophe": "o'brien's",
    "double quotes": 'a "quoted" id',
    "backslashes": "\\n\\\\x41\\",
    "comma": "a,b,,c",
    "braces": "{curly},{}",
    "angles": "<angle>",
    "brackets": '["json"]',
    "the word NULL": "NULL",
    "spaces": "  around  ",
    "line breaks": "two\nlines\t\r\n",
    "percent": "%s %(name)s 100%",
    "dollars": "$1 $$ $tag$",
    "semicolon": "'; drop schema recdb cascade; --",
    "composed": "café",
    "decomposed": "cafe\u0301",
    "right to left": "مرحبا \u202e",
    "emoji": "👩\u200d👩\u200d👧 🏳️\u200d🌈",
    "control characters": "\x01\x1b[31m\x7f",
    "a number": "007",
    "a single character": "x",
    "1,000 characters": "long" * 250,
    "1,000 letters of two bytes": "ä" * 1000,
}


@pytest.fixture(scope="module", autouse=True)
def trained(module_database: Database) -> None:
    """A third of the users and of the items have an awkward id."""
    users = {f"u{number}": awkward for number, awkward in enumerate(AWKWARD.values())}
    items = {f"i{number}": awkward for number, awkward in enumerate(AWKWARD.values())}
    rows = [[users.get(user, user), items.get(item, item), kind] for user, item, kind in tastes(users=60, items=60)]
    with psycopg.connect(module_database.conninfo, autocommit=True) as connection:
        record(connection, rows)
    train(module_database)


@pytest.mark.parametrize("name", AWKWARD)
def test_a_user_with_such_an_id_is_served(shared: psycopg.Connection, name: str) -> None:
    user = AWKWARD[name]
    rows = recommend(shared, user, 1000)
    assert rows
    seen = set(column(shared.execute("select item_id from recdb.interaction where user_id = %s", [user])))
    assert seen.isdisjoint(row[0] for row in rows)
    literal = sql.SQL("select * from recommend({}, 1000, '{{}}')").format(sql.Literal(user))
    assert shared.execute(literal).fetchall() == rows
    assert shared.execute("select neighbor_id from recdb.neighbors(%s)", [user]).fetchall()


@pytest.mark.parametrize("name", AWKWARD)
def test_an_item_with_such_an_id_is_recommended_and_excluded(shared: psycopg.Connection, name: str) -> None:
    item = AWKWARD[name]
    user = column(
        shared.execute(
            "select u.user_id from recdb.user_key u, lateral recommend(u.user_id, 1000) r where r.item_id = %s", [item]
        )
    )[0]
    rows = recommend(shared, user, 1000)
    without = [row for row in rows if row[0] != item]
    assert len(without) == len(rows) - 1

    assert recommend(shared, user, 1000, exclude=[item]) == without
    call = "select * from recommend(%s, 1000, %s)"
    assert shared.execute(call, [user, [item]]).fetchall() == without
    assert shared.execute(call, [user, json.dumps([item])]).fetchall() == without
    assert shared.execute(call, [user, json.dumps([item], ensure_ascii=False)]).fetchall() == without
    quoted = shared.execute("select array[%s::text]::text", [item]).fetchone()
    assert shared.execute(call, [user, quoted[0] if quoted else None]).fetchall() == without


@pytest.mark.parametrize("name", AWKWARD)
def test_an_item_with_such_an_id_is_tracked_and_found_again(shared: psycopg.Connection, name: str) -> None:
    item = AWKWARD[name]
    shared.execute("select recdb.track('visitor', %s, 'like')", [item])
    stored = shared.execute("select item_id from recdb.interaction where user_id = 'visitor'").fetchall()
    assert stored == [(item,)]
    rows = recommend(shared, "visitor")
    assert rows
    assert item not in [row[0] for row in rows]
    assert shared.execute("select * from recdb.similar_items(%s)", [item]).fetchall()


def test_ids_that_look_alike_are_different_ids(shared: psycopg.Connection) -> None:
    """recdb does not trim, case-fold or normalize ids."""
    for other in (" x", "x ", "X", "7", "around"):
        assert recommend(shared, other) == []
    both = column(shared.execute("select item_id from recdb.item_vectors where item_id like 'caf%'"))
    assert sorted(both) == sorted([AWKWARD["composed"], AWKWARD["decomposed"]])


def test_uuids_pass_as_text_and_come_back(database: Database, db: psycopg.Connection) -> None:
    db.execute("create table account (id uuid primary key)")
    db.execute("create table page (id uuid primary key, title text)")
    rows = [[str(uuid5(NAMESPACE_OID, user)), str(uuid5(NAMESPACE_OID, item)), kind] for user, item, kind in tastes()]
    for user in {row[0] for row in rows}:
        db.execute("insert into account values (%s)", [user])
    for item in {row[1] for row in rows}:
        db.execute("insert into page values (%s, 'title')", [item])
    record(db, rows)
    train(database)

    found = db.execute(
        "select a.id, r.item_id::uuid, p.title from account a, lateral recommend(a.id::text, 4) r "
        "join page p on p.id = r.item_id::uuid"
    ).fetchall()
    assert len(found) == 4 * 40


def test_bigints_pass_as_text_and_come_back(database: Database, db: psycopg.Connection) -> None:
    db.execute("create table account (id bigint primary key)")
    db.execute("insert into account select 9000000000 + n from generate_series(0, 39) n")
    record(db, [[str(9_000_000_000 + int(u[1:])), str(-int(i[1:])), kind] for u, i, kind in tastes()])
    train(database)

    found = db.execute("select a.id, r.item_id::bigint from account a, lateral recommend(a.id::text, 4) r").fetchall()
    assert len(found) == 4 * 40
    user, item = found[0]
    numbers = db.execute("select item_id from recommend(%s, 3, %s)", [str(user), f"[{item}]"])
    assert str(item) not in column(numbers)


@pytest.mark.parametrize("column_name", ["user_id", "item_id"])
@pytest.mark.parametrize("value", ["", "x" * 1001, None])
def test_an_id_that_is_empty_or_too_long_is_refused_on_entry(
    shared: psycopg.Connection, column_name: str, value: str | None
) -> None:
    ids = {"user_id": "u", "item_id": "i"} | {column_name: value}
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="1 to 1000 characters"):
        shared.execute("select recdb.track(%(user_id)s, %(item_id)s, 'view')", ids)


def incompressible(size: int) -> str:
    """An id whose characters have three bytes each."""
    return "".join(map(chr, np.random.default_rng(0).integers(0x4E00, 0x9FFF, size=size)))


@pytest.mark.parametrize("column_name", ["user_id", "item_id"])
def test_an_id_of_more_bytes_than_an_index_takes_is_refused_and_maintenance_goes_on(
    shared: psycopg.Connection, column_name: str
) -> None:
    """867 characters of three bytes each are 2,601 bytes."""
    ids = {"user_id": "u", "item_id": "i"} | {column_name: incompressible(867)}
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="at most 2600 bytes"), shared.transaction():
        shared.execute("select recdb.track(%(user_id)s, %(item_id)s, 'view')", ids)
    with pytest.raises(psycopg.errors.CheckViolation), shared.transaction():
        record(shared, [[ids["user_id"], ids["item_id"], "view"]])
    if column_name == "item_id":
        with pytest.raises(psycopg.errors.CheckViolation), shared.transaction():
            shared.execute("insert into recdb.item (item_id) values (%(item_id)s)", ids)
    shared.execute("call recdb.refresh()")
    shared.execute("select recdb.rebuild()")


def test_the_longest_ids_in_bytes_are_served(database: Database, db: psycopg.Connection) -> None:
    """Both ids and the kind have 2,600 bytes, which do not compress; one byte more is refused."""
    long = incompressible(864) + "ab"
    assert len((long + "i1" + "like").encode()) == 2600
    record(db, [*tastes(), [long, "i1", "like"], *([f"u{n}", long, "like"] for n in range(1, 9))])
    db.execute("insert into recdb.item (item_id) values (%s)", [long])
    train(database)
    assert recommend(db, long)
    assert long in [row[0] for row in recommend(db, "u0", 1000)]
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="at most 2600 bytes"):
        db.execute("select recdb.track(%s, 'i1', 'share')", [long])
    db.execute("select recdb.track(%s, 'i2', 'view')", [long])
    db.execute("call recdb.refresh()")
    assert db.execute("select neighbor_id from recdb.neighbors('u1', 1000) where neighbor_id = %s", [long]).fetchall()
