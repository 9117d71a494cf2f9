"""An application renames schema public, moves recdb's functions or pgvector, or gives public away: recdb goes on."""

from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from support.data import recommend, record, tastes
from support.doctor import findings
from support.outside import catalogue

from recdb import job, migrate
from recdb.database import Database, connect
from recdb.errors import RecdbError

EVERY_FORM = """do $$ declare f regprocedure; begin
    create schema app;
    for f in select oid from pg_proc where pronamespace = 'public'::regnamespace and proname = 'recommend' loop
        execute format('alter function %s set schema app', f);
    end loop;
end $$"""

# What an application did, and whether doctor has to fail until `recdb init`.
MOVED = {
    "public renamed": ("alter schema public rename to x", True),
    "public renamed, and another one": ("alter schema public rename to x; create schema public", True),
    "one form of recommend moved": (
        "create schema app; "
        "alter function public.recommend(text, bigint, text[], text, jsonb, text, text[], text, jsonb) set schema app",
        True,
    ),
    "every form of recommend moved": (EVERY_FORM, True),
    "recommend renamed": (
        "alter function public.recommend(text, bigint, text, text, jsonb, text, text[], text, jsonb) rename to suggest",
        True,
    ),
}


@pytest.fixture
def installed(empty_database: Callable[[], Database]) -> Iterator[Database]:
    """A database that serves, and a role that may own a schema there."""
    database = empty_database()
    migrate.upgrade(database)
    with psycopg.connect(database.conninfo, autocommit=True) as db:
        record(db, tastes())
        job.run(database)
        db.execute("create role stranger")
    yield database
    with psycopg.connect(database.conninfo, autocommit=True) as db:
        db.execute("drop owned by stranger cascade; drop role stranger")


def failing(database: Database) -> list[str]:
    with connect(database, autocommit=True) as doctor:
        return [f"{name}: {found.message}" for name, found in findings(doctor).items() if found.state == "fail"]


@pytest.mark.parametrize("name", MOVED)
def test_doctor_says_it_init_repairs_it_and_uninstall_leaves_nothing(installed: Database, name: str) -> None:
    statements, fails = MOVED[name]
    with psycopg.connect(installed.conninfo, autocommit=True) as db:
        own = db.execute("select * from recdb.interaction order by interaction_id").fetchall()
        db.execute(statements)
        assert bool(failing(installed)) == fails

        migrate.upgrade(installed)
        job.run(installed)

        assert failing(installed) == []
        assert recommend(db, "u1", 5)
        assert db.execute("select * from recdb.interaction order by interaction_id").fetchall() == own
    migrate.uninstall(installed)
    names = catalogue(installed)
    assert "recdb" not in names["pg_namespace"] and not {"recommend", "suggest"} & set(names["pg_proc"])


@pytest.mark.parametrize("name", MOVED)
def test_uninstall_works_before_any_repair(installed: Database, name: str) -> None:
    statements, _ = MOVED[name]
    with psycopg.connect(installed.conninfo, autocommit=True) as db:
        db.execute(statements)
        db.execute(
            "create schema theirs; create function theirs.recommend() returns integer language sql as 'select 1'"
        )

    migrate.uninstall(installed)

    with psycopg.connect(installed.conninfo, autocommit=True) as db:
        left = db.execute(
            "select pronamespace::regnamespace::text, proname from pg_proc where proname in ('recommend', 'suggest')"
        ).fetchall()
        assert left == [("theirs", "recommend")]
        assert not db.execute("select 1 from pg_namespace where nspname = 'recdb'").fetchone()


def test_the_grant_on_pgvectors_schema_is_named_by_init_and_doctor(empty_database: Callable[[], Database]) -> None:
    database = empty_database()
    with psycopg.connect(database.conninfo, autocommit=True) as db:
        db.execute("create role boss login createrole")
        try:
            db.execute(f"alter database {db.info.dbname} owner to boss")
            db.execute('create schema "Ext"; create extension vector schema "Ext"')
            owned = Database(make_conninfo(database.conninfo, user="boss"), "test")

            with pytest.raises(RecdbError, match='in schema "Ext", which boss may not use') as refused:
                migrate.upgrade(owned)
            grant = str(refused.value.hint).partition("runs: ")[2]
            assert grant == 'grant usage on schema "Ext" to boss;'
            db.execute(grant)
            migrate.upgrade(owned)
            assert failing(owned) == failing(database) == []

            db.execute('revoke usage on schema "Ext" from boss')
            for asked in (owned, database):
                with connect(asked, autocommit=True) as doctor:
                    found = findings(doctor)
                assert (found["pgvector"].state, found["pgvector"].fix) == ("fail", grant)
            with pytest.raises(RecdbError, match="may not use"):
                migrate.upgrade(owned)
            db.execute(grant)
            migrate.upgrade(owned)
        finally:
            migrate.uninstall(owned)
            db.execute("reassign owned by boss to current_user; drop owned by boss cascade; drop role boss")


@pytest.mark.parametrize(
    "taken", ["create table vector (id int)", "create type halfvec as (x int)", "create domain vector as text"]
)
def test_a_type_with_a_name_of_pgvector_is_said_with_both_ways_on(
    empty_database: Callable[[], Database], taken: str
) -> None:
    database = empty_database()
    with psycopg.connect(database.conninfo, autocommit=True) as db:
        db.execute(f"drop schema public cascade; create schema public; {taken}")
        with pytest.raises(RecdbError, match=r"finds no place in schema public: type .* already exists") as refused:
            migrate.upgrade(database)
        rename, _, use = str(refused.value.hint).partition("use another schema: ")
        assert rename.startswith("rename")
        db.execute(use.partition("then:")[0])
        migrate.upgrade(database)
        record(db, tastes())
        job.run(database)
        assert recommend(db, "u1", 5)
