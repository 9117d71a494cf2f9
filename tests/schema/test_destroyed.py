"""Whatever an application drops or changes in its schema, recdb loses nothing of its own, and `recdb init` repairs."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from support.data import column, recommend, record, tastes
from support.doctor import findings
from support.outside import catalogue, dump_schema, recdb
from support.servers import Server

from recdb import job, migrate
from recdb.data.attach import attach, detach
from recdb.data.sources import Source
from recdb.database import Database, connect

Make = Callable[[], Database]
Copy = Callable[[], Database]

EVENTS = Source("interactions", "public.events", {"user": "who", "item": "what", "kind": "kind", "at": "at"})
POSTS = Source("items", "public.post", {"item": "id", "title": "title", "embedding": "embedding"})
TABLES = """
create type event_kind as enum ('view', 'like');
create table events (who integer, what text, kind event_kind, at timestamp);
create index on events (who, at);
create table post (id text primary key, title text, embedding vector);
insert into events select n % 20, 'i' || (n * n) % 60, 'view', timestamp '2026-01-01' + n * interval '1 minute'
from generate_series(1, 200) n;
insert into post select 'i' || n, 'post ' || n, format('[1, %s]', n)::vector from generate_series(0, 59) n;
"""

# What an application did, and what the error until `recdb init` names; None if the lists go on.
DESTROYED: dict[str, tuple[str, str | None]] = {
    "schema public again": ("drop schema public cascade; create schema public", "vector"),
    "schema public gone": ("drop schema public cascade", "vector"),
    "table cascade": ("drop table events cascade", "public.events"),
    "table": ("drop table events", "public.events"),
    "catalogue": ("drop table post cascade", "public.post"),
    "embeddings dropped": ("alter table post drop embedding", "embedding"),
    "embeddings of no type": ("alter table post alter embedding type boolean using true", "another type"),
    "type of the ids": ("alter table events alter who type text", "another type"),
    "wider ids": ("alter table events alter who type bigint", None),
    "type of the times": ("alter table events alter at type timestamptz using at at time zone 'UTC'", None),
    "ids of no id type": ("alter table events alter who type jsonb using to_jsonb(who)", "public.events"),
    "times that are numbers": (
        "alter table events alter at type bigint using extract(epoch from at)::bigint",
        "public.events",
    ),
    "titles that are numbers": ("alter table post alter title type integer using length(title)", "public.post"),
    "column dropped": ("alter table events drop who", "who"),
    "column renamed": ("alter table events rename who to person", "who"),
    "column of the catalogue": ("alter table post drop title", "title"),
    "table renamed": ("alter table events rename to event", "public.event now"),
    "table moved": ("create schema app; alter table events set schema app", "app.events now"),
    "pgvector moved": ("create schema x; alter extension vector set schema x", "from schema public to x"),
    "pgvector dropped": ("drop extension vector cascade", "vector"),
    "pgvector again": ("drop extension vector cascade; create extension vector", "missing"),
    "enum dropped": ("drop type event_kind cascade", "kind"),
    "enum replaced": (
        "create type kind2 as enum ('view', 'like', 'share'); "
        "alter table events alter kind type kind2 using kind::text::kind2; drop type event_kind",
        None,
    ),
    "recommend dropped": (
        "drop function public.recommend(text, bigint, text[], text, jsonb, text, text[], text, jsonb)",
        None,
    ),
    "weights dropped": ("drop materialized view recdb.user_item_settled cascade", None),
    "owned by another": ("drop owned by app_owner cascade", "public.events"),
    "truncated": ("truncate events", None),
}

CALLS = (
    "select * from recdb.recommend('u1', 5)",
    "select * from recdb.recommend_for_items(array['i1', 'i2'], 5)",
    "select * from recdb.recommend_batch(array['u1'], 5)",
    "select * from recdb.explain('u1', 'i5')",
    "select * from recdb.popular(5)",
    'select * from recdb.popular(5, segment => \'{"country": "de"}\')',
    "select * from recdb.trending(5)",
    "select * from recdb.audience('i1', 5)",
    "select * from recdb.similar_items('i1')",
    "select * from recdb.neighbors('u1')",
    "select * from recdb.item_of('i1')",
    "select * from recdb.interactions",
    "select * from recdb.items",
    "call recdb.refresh()",
)


@pytest.fixture(scope="module")
def copy(server: Server, empty_database: Make) -> Iterator[Copy]:
    """A function that copies a database with recdb's own interactions, an attached table and catalogue, and a model."""
    model = empty_database()
    migrate.upgrade(model)
    with psycopg.connect(model.conninfo, autocommit=True) as db:
        if not db.execute("select 1 from pg_roles where rolname = 'app_owner'").fetchone():
            db.execute("create role app_owner")
        db.execute(TABLES)
        db.execute("alter table events owner to app_owner")
        record(db, tastes())
    attach(model, [EVENTS, POSTS])
    job.run(model)
    name = str(psycopg.conninfo.conninfo_to_dict(model.conninfo)["dbname"])
    made: list[str] = []

    def copied() -> Database:
        made.append(f"{name}_{len(made)}")
        with psycopg.connect(server.conninfo("postgres"), autocommit=True) as connection:
            connection.execute(
                sql.SQL("create database {} template {}").format(sql.Identifier(made[-1]), sql.Identifier(name))
            )
        return Database(make_conninfo(model.conninfo, dbname=made[-1]), "test")

    yield copied
    with psycopg.connect(server.conninfo("postgres"), autocommit=True) as connection:
        for database in (*made, name):
            connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(database)))
        connection.execute("drop role app_owner")


def run(database: Database, statements: str) -> None:
    with psycopg.connect(database.conninfo, autocommit=True) as db:
        db.execute(statements)


def failures(db: psycopg.Connection) -> dict[str, psycopg.Error]:
    """Make every call; return the errors."""
    found = {}
    for call in CALLS:
        try:
            db.execute(call)
        except psycopg.Error as error:
            found[call] = error
    return found


# Until it is repaired, and after ------------------------------------------------------------------------------


@pytest.mark.parametrize("what", DESTROYED)
def test_until_it_is_repaired_there_is_one_clear_error_and_init_and_refresh_repair(copy: Copy, what: str) -> None:
    statements, named = DESTROYED[what]
    database = copy()
    with psycopg.connect(database.conninfo, autocommit=True) as db:
        own = db.execute("select * from recdb.interaction order by interaction_id").fetchall()
        kinds = db.execute("select * from recdb.interaction_kind order by kind").fetchall()
        db.execute(statements)

        if named:
            with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match=re.escape(named)):
                db.execute("select * from recdb.recommend('u1', 5)")
        else:
            assert db.execute("select * from recdb.recommend('u1', 5)").fetchall()
        for call, error in failures(db).items():
            hint = error.diag.message_hint or ""
            assert error.sqlstate == "55000" and re.search("recdb (init|refresh)", hint), (call, error)
            assert named is None or named in str(error), (call, error)
        (tracked,) = db.execute("select recdb.track('u1', 'i1', 'like')").fetchone() or (None,)
        with connect(database, autocommit=True) as doctor:
            said = findings(doctor)
        if named and named != "another type":  # the refresh has followed
            assert any(finding.state == "fail" and named in finding.message for finding in said.values()), said

        migrate.upgrade(database)
        job.run(database)

        assert failures(db) == {}
        assert recommend(db, "u1", 5) and recommend(db, "u2", 3, fallback="popular")
        assert (
            db.execute(
                "select * from recdb.interaction where interaction_id <> %s order by interaction_id", [tracked]
            ).fetchall()
            == own
        )
        assert db.execute("select * from recdb.interaction_kind order by kind").fetchall() == kinds
        with connect(database, autocommit=True) as doctor:
            failed = {name: found.message for name, found in findings(doctor).items() if found.state == "fail"}
            assert failed == {}
    migrate.upgrade(database)
    job.run(database, full=True, force=True)


def test_init_makes_the_schema_of_a_fresh_install_again(copy: Copy) -> None:
    database = copy()
    detach(database, None)
    migrate.upgrade(database)
    before = dump_schema(database)
    run(
        database,
        "drop materialized view recdb.user_item_settled cascade; drop view recdb.items cascade; "
        "drop function recdb.interactions_of, recdb.read_item, recdb.read_items, recdb.users_since cascade; "
        "drop function recdb.interactions_between cascade; "
        "drop function recdb.attached_interactions cascade; drop view if exists recdb.all_interactions cascade; "
        "drop index recdb.interaction_user, recdb.interaction_recorded, recdb.interaction_created; "
        "drop function public.recommend(text, bigint, text, text, jsonb, text, text[], text, jsonb)",
    )

    assert "made again" in recdb("init", database=database)

    assert dump_schema(database) == before


@pytest.mark.parametrize(
    "statements",
    ["drop schema public cascade", "drop extension vector cascade", "drop table events; drop table post",
     "drop materialized view recdb.user_item_settled cascade", "create schema x; alter extension vector set schema x",
     "drop function recdb.profile cascade; drop view recdb.items cascade; delete from recdb.alembic_version"],
)  # fmt: skip
def test_uninstall_leaves_nothing_behind(copy: Copy, statements: str) -> None:
    database = copy()
    run(database, statements)

    left = migrate.uninstall(database)

    # The application has a column of vectors.
    assert all(line.startswith(("role ", "extension vector")) for line in left)
    names = catalogue(database)
    assert "recdb" not in names["pg_namespace"] and "recommend" not in names["pg_proc"]


@pytest.mark.parametrize("statement", ["drop table events", "drop extension vector cascade"])
def test_every_command_says_how_to_go_on(copy: Copy, tmp_path: Path, statement: str) -> None:
    database = copy()
    run(database, statement)
    named = "public.events" if "events" in statement else "vector"
    for command in (
        ("recommend", "u1"),
        ("refresh",),
        ("refresh", "--full"),
        ("tune", "--budget", "5s"),
        ("evaluate",),
        ("recommend-all", str(tmp_path / "lists.csv")),
        ("doctor",),
    ):
        said = recdb(*command, database=database, code=1)
        assert "Traceback" not in said and named in said and "recdb init" in said, (command, said)


# The attached tables ------------------------------------------------------------------------------------------


def test_a_table_that_is_gone_is_left_out_and_taken_in_again_with_its_rows(copy: Copy) -> None:
    """As `prisma migrate reset` does: drop everything, make the tables again, seed them."""
    database = copy()
    with psycopg.connect(database.conninfo, autocommit=True) as db:
        before = db.execute("select count(*) from recdb.interactions").fetchone()
        db.execute("drop schema public cascade; create schema public")
        said = recdb("init", database=database)
        assert "public.events, attached as interactions, cannot be read" in said
        own = column(db.execute("select count(*) from recdb.interaction"))
        assert column(db.execute("select count(*) from recdb.interactions")) == own
        recdb("refresh", database=database)
        assert recommend(db, "u1", 5)
        with connect(database, autocommit=True) as doctor:
            assert "public.events" in findings(doctor)["attached"].message

        db.execute(TABLES)
        recdb("refresh", database=database)

        assert db.execute("select count(*) from recdb.interactions").fetchone() == before
        assert column(db.execute("select listed_only from recdb.config")) == [True]
        assert db.execute("select title from recdb.item_of('i3')").fetchone() == ("post 3",)
        weights = "select count(*) from recdb.user_item_weights where user_id = '7'"
        assert column(db.execute(weights))[0] > 0
        with connect(database, autocommit=True) as doctor:
            assert findings(doctor)["attached"].state in ("ok", "warn")


def test_a_renamed_table_is_attached_again_by_its_new_name(copy: Copy) -> None:
    database = copy()
    run(database, "alter table events rename to event; alter table event rename who to person")
    with psycopg.connect(database.conninfo, autocommit=True) as db:
        attach(
            database,
            [Source("interactions", "public.event", {"user": "person", "item": "what", "kind": "kind", "at": "at"})],
        )
        assert column(db.execute("select relation from recdb.attachment where role = 'interactions'")) == [
            "public.event"
        ]
        assert failures(db) == {}


def test_the_application_alters_and_drops_an_attached_table_without_cascade(copy: Copy) -> None:
    database = copy()
    run(
        database,
        "alter table events add note text; alter table events alter what type varchar(200); "
        "alter table events drop kind; drop table events; drop table post; drop type event_kind",
    )


def test_a_view_is_dropped_and_made_again(copy: Copy) -> None:
    database = copy()
    detach(database, None)
    view = "create view seen as select who, what, kind, at from events where kind = 'view'"
    run(database, view)
    attach(database, [Source("interactions", "seen", {"user": "who", "item": "what", "kind": "kind", "at": "at"})])
    with psycopg.connect(database.conninfo, autocommit=True) as db:
        everything = db.execute("select count(*) from recdb.interactions").fetchone()
        db.execute("drop view seen")
        assert "public.seen" in str(failures(db)["select * from recdb.recommend('u1', 5)"])
        db.execute(view)
        assert failures(db) == {}
        assert db.execute("select count(*) from recdb.interactions").fetchone() == everything


def test_nobody_puts_a_view_in_the_place_of_a_table(copy: Copy) -> None:
    """recdb reads by name: a view of another role would run its functions with the rights of recdb's owner."""
    database = copy()
    run(
        database,
        "grant create on schema public to app_owner; drop table events; set role app_owner; "
        "create table taken (who text); "
        "create function public.grab() returns integer language plpgsql as $$ begin "
        "insert into public.taken values (current_user); return 1; end $$; "
        "create view events as select public.grab() as who, 'i1'::text as what, 'view'::text as kind, "
        "timestamp '2026-01-01' as at; grant all on taken, events to public",
    )
    with psycopg.connect(database.conninfo, autocommit=True) as db:
        for call in CALLS:
            try:
                db.execute(call)
            except psycopg.errors.InsufficientPrivilege as error:
                assert "public.events" in str(error), call
        with connect(database, autocommit=True) as doctor:
            assert findings(doctor)["parts"].state == "fail"
        assert "belongs to a role" in recdb("init", database=database)
        recdb("refresh", database=database)
        assert failures(db) == {}
        assert column(db.execute("select who from taken")) == []
        db.execute("drop owned by app_owner cascade")


def test_nobody_puts_a_function_beside_one_of_a_condition(copy: Copy) -> None:
    """The condition is parsed at each call, and names exact types: no function can fit its arguments better."""
    database = copy()
    detach(database, None)
    run(database, "create function public.shown(bigint) returns boolean language sql immutable as 'select true'")
    mapping = {"user": "who", "item": "what", "kind": "kind", "at": "at", "where": "public.shown(who)"}
    attach(database, [Source("interactions", "public.events", mapping)])
    with psycopg.connect(database.conninfo, autocommit=True) as db:
        before = db.execute("select count(*) from recdb.interactions").fetchone()
        db.execute("grant create on schema public to app_owner; set role app_owner")
        db.execute(
            "create function public.shown(integer) returns boolean language plpgsql as "
            "$$ begin raise exception 'called as %', current_user; end $$; reset role"
        )
        assert failures(db) == {}
        assert db.execute("select count(*) from recdb.interactions").fetchone() == before


# An installation from before ----------------------------------------------------------------------------------


def test_an_upgrade_turns_the_views_of_attached_tables_into_queries_and_back(copy: Copy) -> None:
    database = copy()
    with psycopg.connect(database.conninfo, autocommit=True) as db:
        everything = "select user_id, item_id, kind, created_at from recdb.interactions order by 1, 2, 3, 4"
        before = db.execute(everything).fetchall(), recommend(db, "u1", 10)
        migrate.downgrade(database, "0005")
        assert db.execute(everything).fetchall() == before[0]
        assert db.execute("select count(*) from recdb.attached_1").fetchone() == (200,)
        with pytest.raises(psycopg.errors.DependentObjectsStillExist):
            db.execute("drop table events")

        migrate.upgrade(database)

        assert (db.execute(everything).fetchall(), recommend(db, "u1", 10)) == before
        db.execute("drop table events")


def test_an_upgrade_of_an_installation_whose_tables_were_dropped_goes_through(copy: Copy) -> None:
    database = copy()
    migrate.downgrade(database, "0005")
    run(database, "drop table events cascade")

    said = migrate.upgrade(database)

    job.run(database)
    with psycopg.connect(database.conninfo, autocommit=True) as db:
        assert recommend(db, "u1", 5)
    assert "public.events, attached as interactions, cannot be read" in " ".join(said)
