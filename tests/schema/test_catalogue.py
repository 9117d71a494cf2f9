"""Every function of recdb as the catalogue has it: owner, volatility, parallel safety, security, search path, grants.

functions.txt holds one line for each function. After a change that is meant, write it again, and read the difference:

    RECDB_WRITE_CATALOGUE=1 make test ARGS=tests/schema/test_catalogue.py
"""

import os
import re
from pathlib import Path

import psycopg
import pytest
from support.data import record, tastes, train

from recdb import migrate
from recdb.data.attach import attach
from recdb.data.sources import Source
from recdb.database import Database

EXPECTED = Path(__file__).with_name("functions.txt")
OURS = """
    (p.pronamespace = 'recdb'::regnamespace or p.pronamespace = 'public'::regnamespace and p.proname = 'recommend')
"""
ANY_IDS = """
    p.prolang = (select oid from pg_language where lanname = 'sql') and (
        p.pronamespace = 'public'::regnamespace
        or exists (select from unnest(p.proargtypes) a(oid) join pg_type t on t.oid = a.oid where t.typtype = 'p'))
"""
"""The forms for ids of any type, and public.recommend(): the caller's rights and, to be inlined, the caller's path."""
LATER = """
create function recdb.later() returns integer language sql stable as $$ select 1 $$;
create procedure recdb.later_too() language sql as $$ select 1 $$;
create table recdb.later (id bigint generated always as identity);
create view recdb.later_view as select * from recdb.later;
"""
INVOKERS = {"parse_exclude", "refresh"}
"""Functions in plpgsql that others may call and that run with the caller's rights, under the caller's own path."""


def functions(connection: psycopg.Connection) -> list[str]:
    rows = connection.execute(
        f"""
        select format('%s.%s', p.pronamespace::regnamespace, p.proname),
            pg_get_function_identity_arguments(p.oid),
            case p.provolatile when 'i' then 'immutable' when 's' then 'stable' else 'volatile' end,
            case p.proparallel when 's' then 'parallel' when 'r' then 'restricted' else 'not parallel' end,
            case when p.prosecdef then 'as the owner' else 'as the caller' end,
            coalesce((select c from unnest(p.proconfig) c where c like 'search_path=%'), 'no path'),
            coalesce((
                select string_agg(case when a.grantee = 0 then 'PUBLIC' else a.grantee::regrole::text end, ', '
                    order by a.grantee::regrole::text)
                from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a where a.grantee <> p.proowner
            ), 'the owner only')
        from pg_proc p
        where {OURS}
        order by 1, 2
        """
    ).fetchall()
    return [f"{name}({arguments}): {'; '.join(rest)}" for name, arguments, *rest in rows]


def test_every_function_is_as_it_is_listed(shared: psycopg.Connection) -> None:
    found = functions(shared)
    if os.environ.get("RECDB_WRITE_CATALOGUE"):
        EXPECTED.write_text("\n".join(found) + "\n")
    assert found == EXPECTED.read_text().splitlines()


def test_everything_belongs_to_the_owner_of_the_schema(shared: psycopg.Connection) -> None:
    foreign = shared.execute(
        f"""
        select p.oid::regprocedure::text from pg_proc p, pg_namespace n
        where n.nspname = 'recdb' and p.proowner <> n.nspowner and {OURS}
        union all
        select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where n.nspname = 'recdb' and c.relowner <> n.nspowner
        """
    ).fetchall()
    assert foreign == []


def test_what_runs_as_the_owner_has_a_path_that_nobody_else_writes(shared: psycopg.Connection) -> None:
    """And a body that is parsed at each call has it too, unless only such functions or the owner's job call it."""
    wrong = shared.execute(
        f"""
        select p.oid::regprocedure::text
        from pg_proc p join pg_language l on l.oid = p.prolang
        where {OURS} and p.proname <> all (%s)
          and (p.prosecdef or p.prosqlbody is null and exists (
              select from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
              where a.grantee <> p.proowner))
          and not coalesce(p.proconfig && %s, false)
          and (p.prosecdef or not ({ANY_IDS}))
        """,
        [list(INVOKERS), ["search_path=pg_catalog, pg_temp", "search_path=recdb, pg_temp"]],
    ).fetchall()
    assert wrong == []


def test_a_form_for_ids_of_any_type_names_everything_by_schema(shared: psycopg.Connection) -> None:
    """And passes each argument on in exactly the type of the text form: no other function fits it as well."""
    bodies = shared.execute(f"select p.proname, p.prosrc from pg_proc p where {OURS} and {ANY_IDS}").fetchall()
    assert len(bodies) > 20
    for name, body in bodies:
        called = re.findall(r"([\w.]+)\(", body)
        assert len(called) > 1 or called in (["recdb.list_for_user"], ["recdb.track"])
        assert all(re.fullmatch(r"(recdb|pg_catalog)\.\w+", function) for function in called), name
        assert len(re.findall("::", body)) == len(re.findall(r"::pg_catalog\.text\b", body)), name
        assert not re.search(r"[-+*/<>=~!@#%^&|`?]", body), name


def test_no_stored_expression_uses_what_another_role_may_change(shared: psycopg.Connection) -> None:
    """Views, defaults, generated columns, checks and indexes use nothing but PostgreSQL's, recdb's and pgvector's."""
    foreign = shared.execute(
        """
        select distinct pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid)
        from pg_depend d
        left join pg_proc p on d.refclassid = 'pg_proc'::regclass and p.oid = d.refobjid
        left join pg_operator o on d.refclassid = 'pg_operator'::regclass and o.oid = d.refobjid
        where coalesce(p.pronamespace, o.oprnamespace)::regnamespace::text
                not in ('pg_catalog', 'information_schema', 'recdb')
          and not exists (
              select from pg_depend e where e.objid = d.refobjid and e.deptype = 'e')
          and (p.proname is distinct from 'recommend')
        """
    ).fetchall()
    assert foreign == []


def test_public_has_nothing_on_objects_that_later_revisions_add(database: Database, db: psycopg.Connection) -> None:
    """PostgreSQL grants each new function to PUBLIC, and the owner's default privileges may grant the rest.

    The replay after the revisions takes it away, and so does a training for the tables that it makes.
    """
    db.execute("alter default privileges grant select on tables to public; grant select on recdb.secret to public")
    db.execute("alter default privileges grant all on sequences to public")
    try:
        db.execute(LATER)
        migrate.upgrade(database)
        record(db, tastes())
        train(database)
        db.execute("create table public.event (who text, what text)")
        attach(database, [Source("interactions", "public.event", {"user": "who", "item": "what", "kind": "'view'"})])
    finally:
        db.execute("alter default privileges revoke select on tables from public")
        db.execute("alter default privileges revoke all on sequences from public")
    granted = db.execute(
        """
        select p.proname from pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
        where a.grantee = 0 and p.pronamespace = 'recdb'::regnamespace
        union all
        select c.relname from pg_class c, aclexplode(c.relacl) a
        where a.grantee = 0 and c.relnamespace = 'recdb'::regnamespace
        """
    ).fetchall()
    assert granted == []


@pytest.mark.parametrize("role", ["recdb_self", "recdb_reader", "recdb_writer", "recdb_analyst", "recdb_maintainer"])
def test_no_role_creates_in_the_schema_or_passes_its_rights_on(shared: psycopg.Connection, role: str) -> None:
    """Nor is it a member of the owner, may it log in, or write a table of recdb."""
    row = shared.execute(
        """
        select has_schema_privilege(r.oid, 'recdb', 'create'), pg_has_role(r.oid, n.nspowner, 'member'),
            r.rolcanlogin or r.rolsuper or r.rolcreaterole or r.rolcreatedb or r.rolbypassrls or r.rolreplication,
            exists (
                select from pg_class c where c.relnamespace = n.oid and c.relkind in ('r', 'p', 'v', 'm')
                  and has_table_privilege(r.oid, c.oid, 'insert, update, delete, truncate, references, trigger')),
            exists (
                select from pg_proc p, aclexplode(p.proacl) a
                where p.pronamespace = n.oid and a.grantee = r.oid and a.is_grantable)
        from pg_roles r, pg_namespace n
        where r.rolname = %s and n.nspname = 'recdb'
        """,
        [role],
    ).fetchone()
    assert row == (False, False, False, False, False)
