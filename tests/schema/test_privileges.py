"""Privileges: each of the five roles can do its work and nothing else, and PUBLIC can do nothing."""

import re
from hashlib import sha256

import psycopg
import pytest
from psycopg import sql
from support.data import record, tastes, train

from recdb import migrate
from recdb.data.attach import attach
from recdb.data.sources import Source
from recdb.database import Database

READING = {
    "public.recommend, array": "select * from recommend('u1')",
    "public.recommend, list": "select * from recommend('u1', 5, '<>')",
    "recdb.recommend, array": "select * from recdb.recommend('u1')",
    "recdb.recommend, list": "select * from recdb.recommend('u1', 5, '[]', fallback => 'popular', filter => '{}')",
    "recommend_for_items": "select * from recdb.recommend_for_items(array['i1'])",
    "recommend_batch": "select * from recdb.recommend_batch(array['u1'])",
    "popular": "select * from recdb.popular()",
    "popular, a segment": "select * from recdb.popular(5, '{}', '{\"country\": \"de\"}')",
    "trending": "select * from recdb.trending(5, '1 hour')",
    "similar_items": "select * from recdb.similar_items('i1')",
    "public.recommend, a number": "select * from recommend(42)",
    "public.recommend, a number and a list": "select * from recommend(42, 5, '<>')",
    "public.recommend, numbers": "select * from recommend('u1', 5, array[1.0, 2])",
    "public.recommend, uuids": "select * from recommend(gen_random_uuid(), 5, array[gen_random_uuid()])",
    "recdb.recommend, a number": "select * from recdb.recommend(42.0)",
    "recdb.recommend, a number and a list": "select * from recdb.recommend(42, 5, '[1]')",
    "recdb.recommend, numbers": "select * from recdb.recommend('u1', 5, array[1, 2])",
    "recdb.recommend, uuids": "select * from recdb.recommend(42, 5, array[gen_random_uuid()])",
    "recommend_for_items, a list": "select * from recdb.recommend_for_items('{i1}')",
    "recommend_for_items, numbers": "select * from recdb.recommend_for_items(array[1], 5, array[2])",
    "recommend_for_items, uuids": "select * from recdb.recommend_for_items(array[gen_random_uuid()])",
    "recommend_batch, a list": "select * from recdb.recommend_batch('{u1}')",
    "recommend_batch, numbers": "select * from recdb.recommend_batch(array[1])",
    "recommend_batch, uuids": "select * from recdb.recommend_batch(array[gen_random_uuid()])",
    "similar_items, a number": "select * from recdb.similar_items(42)",
    "explain": "select * from recdb.explain('u1', 'i1')",
    "explain, numbers": "select * from recdb.explain(42, 7)",
    "explain, text and a number": "select * from recdb.explain('u1', 7)",
}
ASKING = {
    "recommend_me": "select * from recdb.recommend_me()",
    "recommend_me, list": "select * from recdb.recommend_me(5, '<i1>')",
    "recommend_me, numbers": "select * from recdb.recommend_me(5, array[1])",
    "recommend_me, uuids": "select * from recdb.recommend_me(5, array[gen_random_uuid()])",
    "explain_me": "select * from recdb.explain_me('i1')",
    "explain_me, a number": "select * from recdb.explain_me(7)",
}
WRITING = {
    "track": "select recdb.track('u1', 'i1', 'view')",
    "merge_users": "select recdb.merge_users('u1', 'u2')",
    "impressions": "select recdb.impressions('u1', '{i1,i2}')",
    "impressions, numbers": "select recdb.impressions(42, array[7, 8.0])",
    "impressions, text and numbers": "select recdb.impressions('u1', array[7])",
    "impressions, the core": """
        select recdb.record_impressions('u1', '{i1}', null, null, null, null, null, null)""",
    "track, numbers": "select recdb.track(42, 7.0, 'view')",
    "track, text and a number": "select recdb.track('u1', 7, 'view')",
    "merge_users, numbers": "select recdb.merge_users(42, 43)",
    "merge_users, text and a number": "select recdb.merge_users('u1', 43)",
}
GROUPING = {
    "variant": "select recdb.variant('u1', 'colours')",
    "variant, a number": "select recdb.variant(42, 'colours')",
}
FOLLOWING = {
    "replication_lag": "select recdb.replication_lag()",
    "replayed": "select recdb.replayed('0/1', '1 min')",
    "database_identity": "select recdb.database_identity()",
}
EXPLORING = {
    "neighbors, a number": "select * from recdb.neighbors(42)",
    "explain_neighbors": "select * from recdb.explain_neighbors('u1', 'i1')",
    "explain_neighbors, numbers": "select * from recdb.explain_neighbors(42, 7)",
    "explain_neighbors, text and a number": "select * from recdb.explain_neighbors('u1', 7)",
    "neighbors": "select * from recdb.neighbors('u1')",
    "audience": "select * from recdb.audience('i1')",
    "audience, a number": "select * from recdb.audience(42)",
    "user_attributes": "select * from recdb.user_attributes",
    "user_item_weights": "select * from recdb.user_item_weights",
    "user_vectors": "select * from recdb.user_vectors",
    "item_vectors": "select * from recdb.item_vectors",
    "interactions": "select * from recdb.interactions",
    "weighted_interactions": "select * from recdb.weighted_interactions",
}
WATCHING = {
    "models": "select * from recdb.models",
    "refresh_log": "select * from recdb.refresh_log",
    "health": "select * from recdb.health",
}
MAINTAINING = {"refresh": "call recdb.refresh()"}
OWNING = {
    "forget_user": "select recdb.forget_user('u1')",
    "forget_user, a number": "select recdb.forget_user(42)",
    "who asks": "select recdb.current_user_id()",
    "rebuild": "select recdb.rebuild()",
    "activate": "select recdb.activate('collaborative_filtering_v1')",
    "a setting": "update recdb.config set half_life = null",
    "a kind": "insert into recdb.interaction_kind (kind, weight) values ('cart', 1)",
    "the ignored": "insert into recdb.ignored_user (user_id) values ('u1')",
    "who is heavy": "select * from recdb.heavy_users()",
    "an experiment": "insert into recdb.experiment (name) values ('e')",
    "a start": "select recdb.start_experiment('colours')",
    "a stop": "select recdb.stop_experiment('running')",
    "what was shown": "delete from recdb.impression",
    "an item": "insert into recdb.item (item_id) values ('i1')",
    "attributes of a user": "insert into recdb.user_attributes (user_id) values ('u1')",
    "an insert": "insert into recdb.interaction (user_id, item_id, kind) values ('u1', 'i1', 'view')",
    "a delete": "delete from recdb.interaction",
    "the store": "select * from recdb.interaction for update",
    "a vector": "delete from recdb.user_vector",
    "a table": "create table recdb.mine (id integer)",
    "the ranking itself": """
        select * from recdb.rank_items(row(), null, null, 5, null, 'none', null, null, null, null)""",
}
EVERYTHING = READING | ASKING | WRITING | GROUPING | EXPLORING | WATCHING | MAINTAINING | OWNING | FOLLOWING

MAY = {
    "recdb_self": ASKING | FOLLOWING,
    "recdb_reader": READING | GROUPING | FOLLOWING,
    "recdb_writer": WRITING | GROUPING | FOLLOWING,
    "recdb_analyst": READING | GROUPING | EXPLORING | WATCHING | FOLLOWING,
    "recdb_maintainer": MAINTAINING | WATCHING | FOLLOWING,
    "stranger": {},
}


@pytest.fixture(scope="module", autouse=True)
def trained(module_database: Database) -> None:
    with psycopg.connect(module_database.conninfo, autocommit=True) as connection:
        record(connection, tastes())
        connection.execute("insert into recdb.experiment (name) values ('colours'), ('running')")
        connection.execute(
            "insert into recdb.experiment_variant (experiment, name) "
            "select e, v from unnest(array['colours', 'running']) e, unnest(array['blue', 'red']) v"
        )
        connection.execute("select recdb.start_experiment('running')")
    train(module_database)


def become(connection: psycopg.Connection, role: str) -> None:
    """Switch to a role without the superuser's rights; the role stranger is made in the same transaction."""
    if role == "stranger":
        connection.execute("create role stranger")
    connection.execute(sql.SQL("set local role {}").format(sql.Identifier(role)))


@pytest.mark.parametrize("role", MAY)
def test_a_role_can_do_its_work_and_nothing_else(shared: psycopg.Connection, role: str) -> None:
    become(shared, role)
    for name, statement in EVERYTHING.items():
        if name in MAY[role]:
            with shared.transaction(force_rollback=True):
                shared.execute(statement)
        else:
            with (
                pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied"),
                shared.transaction(force_rollback=True),
            ):
                shared.execute(statement)
                pytest.fail(f"{role} may {name}")


@pytest.mark.parametrize("call", READING)
def test_a_reader_gets_what_the_owner_gets(shared: psycopg.Connection, call: str) -> None:
    expected = shared.execute(READING[call]).fetchall()
    assert expected or ", " in call or call == "explain"
    become(shared, "recdb_reader")
    assert shared.execute(READING[call]).fetchall() == expected


def test_an_application_that_reads_and_writes(shared: psycopg.Connection) -> None:
    """The usual grant: an application's role gets both roles."""
    shared.execute("create role application")
    shared.execute("grant recdb_reader, recdb_writer to application")
    shared.execute("set local role application")
    shared.execute("select recdb.track('newcomer', 'i1', 'like')")
    assert shared.execute("select * from recommend('newcomer', 50, '{}')").fetchall()
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        shared.execute("select * from recdb.interaction")


def test_a_maintainer_refreshes_and_a_failure_is_logged(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes())
    train(database)
    db.execute("select recdb.track('u1', 'brand-new', 'like')")
    db.execute("set role recdb_maintainer")
    db.execute("call recdb.refresh()")
    db.execute("reset role")
    seen = "select weight from recdb.user_item_weights where user_id = 'u1' and item_id = 'brand-new'"
    assert db.execute(seen).fetchone() == (0.7,)

    db.execute("create function fail() returns trigger language plpgsql as $$ begin raise 'disk full'; end $$")
    db.execute("create trigger fail before insert on recdb.user_item_recent execute function fail()")
    db.execute("select recdb.track('u1', 'newer', 'like')")
    db.execute("set role recdb_maintainer")
    with pytest.raises(psycopg.errors.RaiseException, match="disk full"):
        db.execute("call recdb.refresh()")
    assert db.execute("select error from recdb.refresh_log order by run_id desc limit 1").fetchone() == ("disk full",)


def test_public_is_granted_nothing(shared: psycopg.Connection) -> None:
    granted = shared.execute(
        """
        select p.oid::regprocedure::text
        from pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
        where a.grantee = 0 and (p.pronamespace = 'recdb'::regnamespace
            or (p.pronamespace = 'public'::regnamespace and p.proname = 'recommend'))
        union all
        select c.oid::regclass::text
        from pg_class c, aclexplode(c.relacl) a
        where a.grantee = 0 and c.relnamespace = 'recdb'::regnamespace
        union all
        select n.nspname from pg_namespace n, aclexplode(n.nspacl) a
        where a.grantee = 0 and n.nspname = 'recdb'
        """
    ).fetchall()
    assert granted == []


def test_every_function_that_runs_as_the_owner_pins_its_search_path(shared: psycopg.Connection) -> None:
    """The path ends in pg_temp; otherwise a caller's temporary table could replace a table of recdb's."""
    paths = shared.execute(
        """
        select p.oid::regprocedure::text,
            (select setting from unnest(p.proconfig) setting where setting like 'search_path=%%')
        from pg_proc p where p.pronamespace in ('recdb'::regnamespace, 'public'::regnamespace) and p.prosecdef
        """
    ).fetchall()
    assert paths
    for function, path in paths:
        assert path, function
        assert path, function
        assert path in ("search_path=pg_catalog, pg_temp", "search_path=recdb, pg_temp"), function


def test_rights_stay_after_another_migration(database: Database, db: psycopg.Connection) -> None:
    """A replay does not grant PUBLIC a right again that an administrator revoked."""
    db.execute("create role outsider")
    migrate.upgrade(database)
    try:
        db.execute("set role outsider")
        for statement in (READING | WRITING | MAINTAINING).values():
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                db.execute(statement)
    finally:
        db.execute("reset role")
        db.execute("drop role outsider")


def test_nobody_but_the_owner_finds_out_who_was_forgotten(database: Database, db: psycopg.Connection) -> None:
    """The hash has the installation's own salt, and an analyst reads neither of them."""
    db.execute("create table public.event (who text, what text)")
    db.execute("insert into public.event select u, i from (values ('u1', 'i1'), ('u2', 'i1')) e(u, i)")
    attach(database, [Source("interactions", "public.event", {"user": "who", "item": "what", "kind": "'view'"})])
    db.execute("select recdb.forget_user('u1')")
    (digest,) = db.execute("select user_digest from recdb.forgotten_user").fetchone() or (b"",)
    assert digest not in (sha256(b"u1").digest(), sha256(sha256(b"u1").digest()).digest())
    db.execute("set role recdb_analyst")
    for query in (
        "select * from recdb.forgotten_user",
        "select * from recdb.secret",
        "select * from recdb.interactions_of('u1')",
        "select * from recdb.interactions_of_users('{u1}')",
        "select * from recdb.profile_of('u1')",
        "select * from recdb.profiles_of('{u1}')",
        "select * from recdb.attached_interactions()",
        "select * from recdb.read_interactions()",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            db.execute(query)
    assert db.execute("select user_id from recdb.interactions").fetchall() == [("u2",)]
    db.execute("reset role")


def test_a_database_from_before_the_salt_keeps_its_forgotten_users(database: Database, db: psycopg.Connection) -> None:
    db.execute("create table public.event (who text, what text); insert into public.event values ('u1', 'i1')")
    attach(database, [Source("interactions", "public.event", {"user": "who", "item": "what", "kind": "'view'"})])
    migrate.downgrade(database, "0004")
    db.execute("insert into recdb.forgotten_user (user_digest) values (sha256(convert_to('u1', 'UTF8')))")
    for routine in ("interactions_of(text)", "users_since(xid8, timestamptz)"):
        without_salt(db, f"select pg_get_functiondef('recdb.{routine}'::regprocedure)")
    view = "pg_get_viewdef('recdb.interactions'::regclass)"
    without_salt(db, f"select 'create or replace view recdb.interactions as ' || {view}")
    db.execute("drop table recdb.secret")
    assert db.execute("select * from recdb.interactions").fetchall() == []
    migrate.upgrade(database)
    assert db.execute("select * from recdb.interactions").fetchall() == []
    assert db.execute("select * from recdb.interactions_of('u1')").fetchall() == []
    db.execute("select recdb.rebuild()")
    assert db.execute("select count(*) from recdb.forgotten_user").fetchone() == (1,)


def without_salt(connection: psycopg.Connection, query: str) -> None:
    """Replace a definition by the one that it had before the salt."""
    (definition,) = connection.execute(query).fetchone() or ("",)
    salt = r"\(\s*SELECT k\.salt\s+FROM recdb\.secret k\s+WHERE k\.only_row\)"
    salted = rf"sha256\(\({salt} \|\| sha256\((convert_to\([^()]*\))\)\)\)"
    plain = re.sub(salted, r"sha256(\1)", definition)
    assert "recdb.secret" in definition and "recdb.secret" not in plain
    connection.execute(plain)
