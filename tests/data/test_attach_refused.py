"""Tables, columns and rights that attach() refuses, with a message and a hint."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from support.attached import INTERACTIONS, ITEMS, LIKES, SOURCES, assert_serves, schema_and_mappings

from recdb import job, migrate
from recdb.data.attach import attach
from recdb.data.sources import Source, parse_source
from recdb.database import Database
from recdb.doctor import examine
from recdb.errors import InvalidInput, RecdbError


def changed(source: Source, **mapping: str) -> Source:
    return Source(source.role, source.relation, {**source.mapping, **mapping})


REFUSED = {
    "no such table": (Source("items", "public.posst", {"item": "id"}), "no table public.posst", "public.post"),
    "no table's name": (Source("items", "a.b.c.d", {"item": "id"}), "there is no table", "the tables are"),
    "recdb's own": (Source("items", "recdb.item", {"item": "item_id"}), "cannot be attached", ""),
    "an index": (Source("items", "post_pkey", {"item": "id"}), "cannot be attached", ""),
    "no such column": (changed(INTERACTIONS, user="author"), "has no column author", "user_id"),
    "no id": (changed(INTERACTIONS, item="metadata"), "type jsonb", "text, varchar, uuid"),
    "no time": (changed(INTERACTIONS, at="interaction_type"), "not a time", "timestamptz"),
    "a misspelt kind": (changed(INTERACTIONS, kind="interaction_typ"), "neither a column", "'interaction_typ'"),
    "no kind": (changed(INTERACTIONS, kind=""), "the kind", ""),
    "a condition on nothing": (changed(INTERACTIONS, where="gone is null"), 'column "gone"', "interaction_type"),
    "no condition": (changed(INTERACTIONS, where="now()"), "cannot cast", ""),
    "half a condition": (changed(INTERACTIONS, where="true) and (not"), "syntax error", ""),
    "two statements": (changed(INTERACTIONS, where="true); drop table comment; select (true"), "multiple commands", ""),
    "no such availability": (changed(ITEMS, available="gone"), 'column "gone"', "deleted_at"),
    "items that are not unique": (changed(ITEMS, item="user_id"), "not unique", "create unique index concurrently"),
    "no such attribute": (changed(ITEMS, attributes="topic,lang"), "has no column lang", "topic"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_read_is_refused_and_changes_nothing(
    database: Database, app_db: psycopg.Connection, what: str
) -> None:
    before = schema_and_mappings(database)
    source, message, hint = REFUSED[what]
    with pytest.raises(InvalidInput) as refused:
        attach(database, [LIKES, source])
    assert message in str(refused.value)
    assert hint in (refused.value.hint or "")
    assert schema_and_mappings(database) == before


@pytest.mark.parametrize(
    "text",
    ["", "like", "like user=a item=b", "like user=a item=b kind=", "like user=a item=b kind=c who=d", "like user"],
)
def test_a_source_that_says_too_little_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_source(text)


@pytest.fixture
def owned(app_db: psycopg.Connection, database: Database) -> Iterator[Database]:
    """recdb, owned by a role that owns none of the application's tables."""
    name = sql.Identifier(app_db.info.dbname)
    migrate.uninstall(database)
    app_db.execute("create extension if not exists vector; create role librarian login")
    app_db.execute("grant recdb_reader, recdb_writer, recdb_analyst, recdb_maintainer to librarian with admin option")
    app_db.execute(sql.SQL("grant create on database {} to librarian").format(name))
    app_db.execute("grant create on schema public to librarian")
    librarian = Database(make_conninfo(database.conninfo, user="librarian"), "test")
    try:
        migrate.upgrade(librarian)
        yield librarian
    finally:
        app_db.execute("drop role if exists assistant; drop owned by librarian cascade; drop role librarian")


@pytest.mark.parametrize("who", ["the owner", "a member"])
def test_rights_that_recdbs_owner_lacks_are_named_with_the_grant(
    owned: Database, app_db: psycopg.Connection, who: str
) -> None:
    connection = owned
    if who == "a member":
        app_db.execute("create role assistant login in role librarian")
        connection = Database(make_conninfo(owned.conninfo, user="assistant"), "test")
    with pytest.raises(RecdbError, match="may not read") as refused:
        attach(connection, SOURCES)
    assert refused.value.hint == 'grant select on public."like", public.post, public.user_interaction to librarian;'
    app_db.execute(refused.value.hint)
    with pytest.raises(RecdbError, match="permission denied") as refused:
        attach(connection, [changed(INTERACTIONS, where='user_id in (select id from "user")')])
    app_db.execute("create schema hidden; create table hidden.away (id text)")
    with pytest.raises(RecdbError, match="permission denied") as refused:
        attach(connection, [Source("items", "hidden.away", {"item": "id"})])
    assert refused.value.hint == "grant usage on schema hidden to librarian;"
    attach(connection, SOURCES)
    job.run(owned)
    assert_serves(app_db)


def test_a_superuser_does_not_run_the_code_of_another_owner(owned: Database, database: Database) -> None:
    """A function of librarian in the superuser's session could return to the superuser's rights."""
    with pytest.raises(RecdbError, match="only librarian") as refused:
        attach(database, SOURCES)
    assert refused.value.hint == "connect as librarian"
    with pytest.raises(RecdbError, match="schema recdb belongs to librarian") as refused:
        job.run(database)
    with pytest.raises(RecdbError, match="schema recdb belongs to librarian") as refused:
        migrate.upgrade(database)
    assert refused.value.hint and refused.value.hint.startswith("connect as librarian")


def test_row_level_security_that_would_hide_rows_is_refused(owned: Database, app_db: psycopg.Connection) -> None:
    app_db.execute('grant select on user_interaction, "like", post to librarian')
    app_db.execute("alter table user_interaction enable row level security")
    app_db.execute("create policy mine on user_interaction using (user_id = current_setting('app.user', true))")
    with pytest.raises(RecdbError, match="row-level security of user_interaction") as refused:
        attach(owned, SOURCES)
    assert refused.value.hint
    app_db.execute(refused.value.hint.partition(";")[0])
    attach(owned, SOURCES)
    assert app_db.execute("select count(*) > 1000 from recdb.interactions").fetchone() == (True,)
    app_db.execute("drop policy recdb_reads on user_interaction")
    with psycopg.connect(owned.conninfo, autocommit=True) as connection:
        found = {finding.check: finding for finding in examine(connection)}["attached"]
    assert found.state == "fail" and "user_interaction" in found.message


def test_only_the_owner_attaches(app_db: psycopg.Connection, database: Database) -> None:
    app_db.execute("create role passerby login; grant usage on schema recdb to passerby")
    app_db.execute("grant select on recdb.alembic_version to passerby")
    try:
        with pytest.raises(RecdbError, match="only postgres"):
            attach(Database(make_conninfo(database.conninfo, user="passerby"), "test"), SOURCES)
    finally:
        app_db.execute("drop owned by passerby; drop role passerby")
