"""The removal of a recommender: its schema, its `public.recommend`, and the roles that nothing else needs."""

import psycopg
from psycopg import sql

from recdb.citus import require_coordinator
from recdb.database import require_primary
from recdb.errors import NotInstalled, RecdbError
from recdb.faults import reach
from recdb.preconditions import check_owner, check_schema_is_ours, lock_out_installs
from recdb.public import find_public_recommend
from recdb.repair import dependents, shut_public
from recdb.roles import installed_prefix, role_comments
from recdb.schemas import Verbatim, describe_place


def remove(connection: psycopg.Connection, lock_timeout: str) -> list[str]:
    """Remove everything in one transaction; return a line for each role or extension that stays.

    Nothing here relies on recdb being whole. It raises LockNotAvailable if a table is in use for `lock_timeout`.
    """
    if not connection.execute("select 1 from pg_namespace where nspname = 'recdb'").fetchone():
        raise NotInstalled(f"recdb is not installed in {describe_place(connection)}")
    require_primary(connection)
    require_coordinator(connection)
    check_schema_is_ours(connection)
    lock_out_installs(connection)
    connection.execute("select set_config('lock_timeout', %s, true)", [lock_timeout])
    check_owner(connection)
    others = dependents(connection)
    if others:
        raise RecdbError("objects of the application depend on recdb's: nothing was changed", "\n".join(others))
    roles = role_comments(installed_prefix(connection))
    for function in find_public_recommend(connection, moved=True):
        if not function.of_others and not function.is_foreign:
            connection.execute(sql.SQL("drop function {}").format(Verbatim(function.name)))
    connection.execute("drop schema recdb cascade")
    reach("schema dropped")
    connection.execute("set local lock_timeout = 0")
    left: list[str] = []
    if _extension_is_ours(connection):
        left += _try_to_drop(connection, "extension", "vector")
    for role in roles:
        shut_public(connection, role)
        if is_made_by_recdb(connection, role):
            left += _try_to_drop(connection, "role", role)
        else:
            left.append(f"role {role}: recdb did not make it")
    return left


def is_made_by_recdb(connection: psycopg.Connection, role: str) -> bool:
    """Tell whether a role has the comment that recdb gives; also true for a role that is not there."""
    row = connection.execute(
        "select coalesce(shobj_description(oid, 'pg_authid'), '') like 'recdb: %%' from pg_roles where rolname = %s",
        [role],
    ).fetchone()
    return row is None or bool(row[0])


def _try_to_drop(connection: psycopg.Connection, kind: str, name: str) -> list[str]:
    """Drop an object that others may need as well; if it has to stay, return a line that says why."""
    try:
        with connection.transaction():
            connection.execute(sql.SQL("drop {} if exists {}").format(sql.SQL(kind), sql.Identifier(name)))
    except (psycopg.errors.DependentObjectsStillExist, psycopg.errors.InsufficientPrivilege) as error:
        return [f"{kind} {name}: {error.diag.message_primary}"]
    return []


def _extension_is_ours(connection: psycopg.Connection) -> bool:
    row = connection.execute(
        "select obj_description(oid, 'pg_extension') from pg_extension where extname = 'vector'"
    ).fetchone()
    return bool(row and row[0] == "pgvector, installed by recdb")
