"""Checks of the server, of the installed revision, and of roles and grants."""

import psycopg

from recdb.citus import is_worker
from recdb.database import fetch_row
from recdb.distribution import UPGRADE_COMMAND
from recdb.doctor.verdict import Verdict, some
from recdb.job.indexes import SAFE_PARALLEL, SAFE_VACUUM, version_of
from recdb.migrate import installed_revision, newest_revision
from recdb.preconditions import MINIMUM_PGVECTOR, MINIMUM_POSTGRESQL, find_closed_schema
from recdb.roles import installed_prefix, role_comments


def check_server(connection: psycopg.Connection) -> Verdict:
    """The server's version is new enough."""
    version = connection.info.parameter_status("server_version")
    if connection.info.server_version < MINIMUM_POSTGRESQL * 10000:
        return Verdict("fail", f"PostgreSQL {version} is too old", f"upgrade to {MINIMUM_POSTGRESQL} or newer")
    (replica,) = fetch_row(connection, "select pg_is_in_recovery()")
    return Verdict("ok", f"PostgreSQL {version}{', a read-only replica' if replica else ''}")


def check_pgvector(connection: psycopg.Connection) -> Verdict:
    """The extension is installed and new enough, and recdb's owner may use its schema."""
    installed, available = fetch_row(
        connection,
        """
        select (select extversion from pg_extension where extname = 'vector'),
            (select default_version from pg_available_extensions where name = 'vector')
        """,
    )
    wanted = ".".join(map(str, MINIMUM_PGVECTOR))
    found = installed or available
    if found is None:
        return Verdict(
            "fail", "pgvector is not on this server", f"install pgvector {wanted} or newer, then: recdb init"
        )
    newest = max(version_of(found), version_of(available or found))
    if version_of(found) < MINIMUM_PGVECTOR:
        return Verdict("fail", f"pgvector {found} is too old", _update(newest, MINIMUM_PGVECTOR))
    if installed is None:
        return Verdict("fail", f"pgvector {available} is on the server, but not in this database", "recdb init")
    closed = find_closed_schema(connection)
    if closed:
        schema, owner = closed
        message = f"pgvector is in schema {schema}, which recdb's owner {owner} may not use: its searches fail"
        return Verdict("fail", message, f"grant usage on schema {schema} to {owner};")
    if version_of(installed) < SAFE_VACUUM:
        message = f"pgvector {installed}: a VACUUM can damage an HNSW index, so that searches miss neighbours"
        if version_of(installed) < SAFE_PARALLEL:
            message += "; recdb builds these indexes without parallel workers, which are unsafe before 0.8.2"
        until = "until then: recdb refresh --full, which builds new indexes, whenever the check recall warns"
        return Verdict("warn", message, f"{_update(newest, SAFE_VACUUM)} {until}")
    return Verdict("ok", f"pgvector {installed}")


def _update(available: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    """Say how to get a pgvector that is at least `wanted` from a server that has `available`."""
    update = "alter extension vector update;"
    if available >= wanted:
        return update
    return f"install pgvector {'.'.join(map(str, wanted))} or newer on the server, then: {update}"


def check_revision(connection: psycopg.Connection) -> Verdict:
    """The database is at the newest revision that this package knows."""
    found, wanted = installed_revision(connection), newest_revision()
    if found is None and is_worker(connection):
        return Verdict("fail", "this server is a worker of a Citus cluster", "run recdb doctor on the coordinator")
    if found is None:
        return Verdict("fail", "recdb is not installed in this database", "recdb init")
    if found > wanted:
        message = f"the database is at revision {found}, newer than this package's {wanted}"
        return Verdict("fail", message, UPGRADE_COMMAND)
    if found != wanted:
        return Verdict("fail", f"the database is at revision {found}, this package at {wanted}", "recdb init")
    return Verdict("ok", f"revision {found}")


def check_roles(connection: psycopg.Connection) -> Verdict:
    """recdb's roles exist; they belong to the cluster, so the dump of a database does not contain them."""
    roles = list(role_comments(installed_prefix(connection)))
    (missing,) = fetch_row(
        connection,
        "select coalesce(array_agg(r), '{}') from unnest(%s::text[]) r where to_regrole(r) is null",
        [roles],
    )
    if missing:
        statements = " ".join(f"create role {role} nologin;" for role in missing)
        return Verdict("fail", f"missing: {', '.join(missing)}", f"{statements} then: recdb init")
    return Verdict("ok", f"{', '.join(roles)} exist")


def check_grants(connection: psycopg.Connection) -> Verdict | None:
    """Some role that can log in may call recommend() or recommend_me(), itself or after SET ROLE."""
    rows = connection.execute(
        """
        select r.rolname, exists (
            select from pg_roles o, unnest(array[
                to_regprocedure('recdb.list_for_user(text, bigint, text[], text, jsonb, text, text[], text, jsonb)'),
                to_regprocedure('recdb.list_for_me(bigint, text[], text, jsonb, text, text[], text, jsonb)')]) f(oid)
            where pg_has_role(r.oid, o.oid, 'member')
              and has_schema_privilege(o.oid, 'recdb', 'usage') and has_function_privilege(o.oid, f.oid, 'execute')
              and o.rolname <> all (%s))
        from pg_roles r
        where r.rolcanlogin and not r.rolsuper
          and r.oid <> (select nspowner from pg_namespace where nspname = 'recdb')
        order by r.rolname
        """,
        [list(role_comments(installed_prefix(connection)))],
    ).fetchall()
    able = [role for role, allowed in rows if allowed]
    if able:
        return Verdict("ok", f"{some(able)} may call recommend()")
    if rows:
        message = f"only recdb's owner may call recommend(), and not {some([role for role, _ in rows])}"
        prefix = installed_prefix(connection)
        return Verdict("warn", message, f"grant {prefix}_reader, {prefix}_writer to <the application's role>;")
    return Verdict("ok", "no role but recdb's owner and superusers can log in")


def check_public(connection: psycopg.Connection) -> Verdict:
    """PUBLIC has no privilege on recdb's objects."""
    (names,) = fetch_row(
        connection,
        """
        select coalesce(array_agg(distinct o.name order by o.name), '{}')
        from (
            select p.oid::regprocedure::text as name, coalesce(p.proacl, acldefault('f', p.proowner)) as acl
            from pg_proc p
            where p.pronamespace = 'recdb'::regnamespace
               or p.pronamespace = to_regnamespace('public') and p.proname = 'recommend'
                   and obj_description(p.oid, 'pg_proc') like 'recdb: %'
            union all
            select c.oid::regclass::text, c.relacl from pg_class c where c.relnamespace = 'recdb'::regnamespace
        ) o
        cross join lateral aclexplode(o.acl) a
        where a.grantee = 0
        """,
    )
    if names:
        statement = (
            "revoke all on all routines in schema recdb from public; "
            "revoke all on all tables in schema recdb from public; then: recdb init"
        )
        return Verdict("fail", f"every role of this server may use {some(names)}", statement)
    return Verdict("ok", "PUBLIC has no privilege on recdb's objects")
