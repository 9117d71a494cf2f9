"""A column of the catalogue, or the function that names the caller, is gone: no hidden item appears in a list, and no
caller gets the list of another."""

import psycopg
import pytest
from support.data import column, recommend, record, tastes
from support.doctor import findings
from support.outside import recdb

from recdb import job
from recdb.data.attach import attach
from recdb.data.sources import Source
from recdb.database import Database, connect

THINGS = """
create table thing (sku text primary key, owner text, name text, hidden boolean, tags jsonb, opens timestamptz);
insert into thing select 'i' || n, '7', 'thing ' || n, n % 2 = 1, '{"tag": "a"}' from generate_series(0, 49) n
"""
THING = Source("items", "public.thing", {
    "item": "sku", "owner": "owner", "title": "name", "attributes": "tags", "available": "not hidden",
    "published": "opens"})  # fmt: skip

# What an application did to a column that only describes, and what init and doctor say.
DESCRIBED = {
    "title dropped": ("alter table thing drop name", "title (column name)"),
    "attributes dropped": ("alter table thing drop tags", "attributes (column tags)"),
    "both renamed": (
        "alter table thing rename name to label; alter table thing rename tags to labels",
        "title (column name), attributes (column tags)",
    ),
    "attributes of type json": ("alter table thing alter tags type json", None),
    "titles that are numbers": ("alter table thing alter name type integer using length(name)", None),
}
# What it did to a column that decides which items may be recommended, or to the table.
DECIDED = (
    "alter table thing drop hidden",
    "alter table thing rename hidden to concealed",
    "alter table thing alter hidden type text",
    "alter table thing rename owner to seller",
    "alter table thing drop opens",
    "alter table thing drop name; alter table thing rename hidden to concealed",
    "alter table thing alter sku type jsonb using to_jsonb(sku)",
    "alter table thing rename sku to id",
    "alter table thing rename to things",
)


@pytest.fixture
def things(database: Database, db: psycopg.Connection) -> Database:
    """A database whose catalogue hides every other item, lacks ten, and gives all to user 7."""
    record(db, tastes())
    db.execute(THINGS)
    attach(database, [THING])
    job.run(database)
    return database


def listed(db: psycopg.Connection) -> set[str]:
    """Recommend as much as there is to three callers."""
    calls = "select r.item_id from unnest(array['u1', '3', '5']) u, recdb.recommend(u, 1000, fallback => 'popular') r"
    return set(column(db.execute(calls))) | set(column(db.execute("select item_id from recdb.popular(1000)")))


def odd(items: set[str]) -> set[str]:
    return {item for item in items if int(item[1:]) % 2 or int(item[1:]) > 49}


@pytest.mark.parametrize("name", DESCRIBED)
def test_a_column_that_only_describes_is_done_without(things: Database, db: psycopg.Connection, name: str) -> None:
    statements, lost = DESCRIBED[name]
    before = listed(db)
    assert before and not odd(before)
    db.execute(statements)

    said = recdb("init", database=things)
    recdb("refresh", database=things)

    assert (f"public.thing, attached as items, is read without {lost}" in said) == bool(lost), said
    assert listed(db) == before
    assert recommend(db, "7", 5) == []
    title, attributes = db.execute("select title, attributes from recdb.item_of('i2')").fetchone() or ()
    assert title == (None if lost and "title" in lost else "7" if "numbers" in name else "thing 2")
    assert attributes == ({} if lost and "attributes" in lost else {"tag": "a"})
    with connect(things, autocommit=True) as doctor:
        found = findings(doctor)
    assert not [each for each in found.values() if each.state == "fail"]
    assert (f"is read without {lost}" in found["attached"].message) == bool(lost)
    assert not lost or "is read without" not in recdb("init", database=things)

    db.execute("drop table thing; " + THINGS)
    recdb("refresh", database=things)
    assert db.execute("select title, attributes from recdb.item_of('i2')").fetchone() == ("thing 2", {"tag": "a"})
    assert listed(db) == before
    assert column(db.execute("select whole_query from recdb.attachment where role = 'items'")) == [None]


@pytest.mark.parametrize("statements", DECIDED)
def test_no_item_of_a_catalogue_that_recdb_cannot_read_is_recommended(
    things: Database, db: psycopg.Connection, statements: str
) -> None:
    before = listed(db)
    db.execute(statements)

    said = recdb("init", database=things)
    recdb("refresh", database=things)

    assert "it says which items may be recommended, so none of its items is" in said
    assert not odd(listed(db))
    with connect(things, autocommit=True) as doctor:
        found = findings(doctor)["attached"]
    assert found.state == "fail" and "so none of its items is" in found.message
    assert found.fix and "recdb detach public.thing" in found.fix

    db.execute("drop table if exists thing, things; " + THINGS)
    recdb("refresh", database=things)
    assert listed(db) == before


@pytest.mark.parametrize("statements", ["drop table thing", "update recdb.config set listed_only = false; "
                                        "alter table thing drop hidden"])  # fmt: skip
def test_where_hidden_items_are_recommended_init_and_doctor_say_so(
    things: Database, db: psycopg.Connection, statements: str
) -> None:
    db.execute(statements)

    assert "items that this table hid are recommended now" in recdb("init", database=things)

    recdb("refresh", database=things)
    assert odd(listed(db))
    with connect(things, autocommit=True) as doctor:
        found = findings(doctor)["attached"]
    assert found.state == "fail" and "items that this table hid are recommended now" in found.message
    assert found.fix
    db.execute(found.fix[found.fix.index("update recdb.config") :])
    assert not odd(listed(db))


# Who the caller is --------------------------------------------------------------------------------------------

AUTH = (
    "create schema {} auth; create or replace function auth.uid() returns text language sql as $$ select 'u1'::text $$;"
)
MINE = "create or replace function recdb.current_user_id() returns text language sql stable"
GONE = (
    "drop function recdb.current_user_id()",
    "drop function recdb.current_user_id() cascade",
    "drop schema auth cascade",
)


@pytest.mark.parametrize("statements", GONE)
def test_who_the_caller_is_never_falls_back_to_what_every_session_can_set(
    database: Database, db: psycopg.Connection, statements: str
) -> None:
    record(db, tastes())
    job.run(database)
    db.execute(f"{AUTH.format('')} {MINE} return auth.uid()")
    assert db.execute("select * from recdb.recommend_me(3)").fetchall() == recommend(db, "u1", 3)
    db.execute(statements)
    for call in ("recdb.recommend_me(3)", "recdb.recommend_me(3, '{a}')", "recdb.explain_me('i5')"):
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="current_user_id") as error:
            db.execute(f"select * from {call}")  # type: ignore[call-overload]
        assert "Run: recdb init" in (error.value.diag.message_hint or "")
    assert recommend(db, "u1", 3)
    with connect(database, autocommit=True) as doctor:
        found = findings(doctor)["parts"]
    assert found.state == "fail" and "current_user_id(), which says who the caller is" in found.message

    assert "recdb.current_user_id() was missing: it is made again and names nobody" in recdb("init", database=database)

    db.execute("set recdb.user_id = 'u1'")
    assert db.execute("select * from recdb.recommend_me(3)").fetchall() == []
    with connect(database, autocommit=True) as doctor:
        found = findings(doctor)["parts"]
    assert found.state == "warn" and "names nobody" in found.message
    db.execute(f"{AUTH.format('if not exists')} {MINE} as $$ select auth.uid() $$")
    assert db.execute("select * from recdb.recommend_me(3)").fetchall() == recommend(db, "u1", 3)
    assert "current_user_id" not in recdb("init", database=database)
    with connect(database, autocommit=True) as doctor:
        assert findings(doctor)["parts"].state == "ok"


@pytest.mark.parametrize(("body", "state"), [
    ("begin return auth.uid(); end", "fail"), ("begin return (select id from account); end", "fail"),
    ("begin raise 'who are you?'; end", "warn"), ("begin return current_setting('app.user'); end", "warn"),
])  # fmt: skip
def test_doctor_says_that_who_the_caller_is_fails(
    database: Database, db: psycopg.Connection, body: str, state: str
) -> None:
    record(db, tastes())
    job.run(database)
    db.execute(f"create or replace function recdb.current_user_id() returns text language plpgsql as $$ {body} $$")
    with pytest.raises(psycopg.Error) as error:
        db.execute("select * from recdb.recommend_me(3)")
    assert (error.value.sqlstate == "55000" and bool(error.value.diag.message_hint)) == (state == "fail")
    with connect(database, autocommit=True) as doctor:
        found = findings(doctor)["parts"]
    assert found.state == state and "recdb.current_user_id()" in found.message and found.fix
