"""The checks of a server, a database and a role that `recdb init` makes before it changes anything."""

import re
import time

import psycopg

from recdb.database import fetch_row
from recdb.errors import InvalidInput, RecdbError
from recdb.roles import DEFAULT_PREFIX, role_comments
from recdb.schemas import DEFAULT_SCHEMA, schema_of

# The key of an advisory lock, "recdb" in ASCII: several installs at once run one after another.
INSTALL_LOCK = 0x7265636462

MINIMUM_PGVECTOR = (0, 8, 0)
MINIMUM_POSTGRESQL = 15


def administrator_statements(connection: psycopg.Connection, prefix: str = DEFAULT_PREFIX) -> str:
    """Return the SQL that an administrator runs once in this database, so that the current role can install recdb."""
    roles = tuple(role_comments(prefix))
    owner = connection.execute("select quote_ident(current_user)").fetchone()
    known = connection.execute("select rolname from pg_roles where rolname = any (%s)", [list(roles)]).fetchall()
    missing = [role for role in roles if (role,) not in known]
    lines = ["create extension if not exists vector;"]
    lines += [f"create role {role} nologin;" for role in missing]
    lines += [f"grant {', '.join(roles)} to {owner[0] if owner else ''} with admin option;"]
    return "\n".join(lines)


def lock_out_installs(raw: psycopg.Connection, seconds: float = 60.0) -> None:
    """Let one install, uninstall or attach after another run in this database, until this transaction ends.

    Every role may take an advisory lock. So a session that could not act as the current role is not waited for.
    """
    deadline = time.monotonic() + seconds
    while not fetch_row(raw, "select pg_try_advisory_xact_lock(%s)", [INSTALL_LOCK])[0]:
        (holders, holder) = fetch_row(
            raw,
            """
            select count(*), max(format('process %%s (role %%s)', a.pid, a.usename))
                filter (where pg_has_role(a.usesysid, r.oid, 'member'))
            from pg_locks l
            join pg_stat_activity a on a.pid = l.pid
            join pg_roles r on r.rolname = current_user
            where l.locktype = 'advisory' and l.granted and l.objsubid = 1
              and (l.classid::bigint << 32) + l.objid::bigint = %s
              and l.database = (select d.oid from pg_database d where d.datname = current_database())
            """,
            [INSTALL_LOCK],
        )
        if holder is None:
            if holders:
                return
            continue  # the holder ended meanwhile
        if time.monotonic() > deadline:
            raise RecdbError(
                f"{holder} is installing recdb or attaching tables: nothing was changed",
                "try again when it is done",
            )
        time.sleep(0.05)


def check_owner(connection: psycopg.Connection) -> None:
    """Raise RecdbError if schema recdb, or an object in it, belongs to another role than the current one.

    Such a role could have put a trigger or a function there, which would run with the rights of the current role. It
    would not help to become that role first: its code could return to the role that logged in.
    """
    row = connection.execute(
        """
        select quote_ident(current_user), quote_ident(r.rolname), r.rolcanlogin, n.nspowner = c.oid,
            array(
                select o.name from (
                    select oid::regclass::text, relnamespace, relowner from pg_class where relkind not in ('c', 'i')
                    union all select oid::regprocedure::text, pronamespace, proowner from pg_proc
                    union all select oid::regtype::text, typnamespace, typowner from pg_type
                        where typrelid = 0 and typcategory <> 'A'
                    union all select oid::regoperator::text, oprnamespace, oprowner from pg_operator
                ) o(name, namespace, owner)
                where o.namespace = n.oid and o.owner <> c.oid
                order by o.name)
        from pg_namespace n
        join pg_roles r on r.oid = n.nspowner
        join pg_roles c on c.rolname = current_user
        where n.nspname = 'recdb'
        """
    ).fetchone()
    if row is None:
        return
    current, owner, may_log_in, is_owner, foreign = row
    if not is_owner:
        how = f"connect as {owner}" if may_log_in else f"add to the URL: ?options=-c%20role%3D{owner}"
        raise RecdbError(
            f"schema recdb belongs to {owner}, and this role is {current}",
            f"{how}; or, if recdb was never installed there: drop schema recdb cascade;",
        )
    if foreign:
        more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
        raise RecdbError(
            f"schema recdb has objects that do not belong to {current}: {', '.join(foreign[:3])}{more}",
            f"drop them, or: alter … owner to {current};",
        )


def ensure_pgvector(raw: psycopg.Connection) -> None:
    """Create the extension if it is missing."""
    query = """
        select e.extversion, n.nspname
        from pg_extension e join pg_namespace n on n.oid = e.extnamespace
        where e.extname = 'vector'
    """
    found = raw.execute(query).fetchone()
    if found is None:
        try:
            with raw.transaction():
                raw.execute("create extension vector schema public")
                raw.execute("comment on extension vector is 'pgvector, installed by recdb'")
        except psycopg.errors.InsufficientPrivilege as error:
            raise RecdbError(
                "the extension vector (pgvector) is missing and this role may not create it",
                f"an administrator runs once, in this database:\n{administrator_statements(raw)}",
            ) from error
        except (psycopg.errors.UndefinedFile, psycopg.errors.FeatureNotSupported) as error:
            raise RecdbError(
                "pgvector is not installed on this server",
                "install pgvector 0.8.0 or newer, better 0.8.4 (Debian: postgresql-18-pgvector), then: recdb init",
            ) from error
        except (psycopg.errors.DuplicateObject, psycopg.errors.DuplicateFunction) as error:
            raise RecdbError(
                f"pgvector finds no place in schema public: {error.diag.message_primary}",
                "rename what has that name, or use another schema: create schema extensions; "
                "create extension vector schema extensions; then: recdb init",
            ) from error
        found = fetch_row(raw, query)
    version, schema = found
    if tuple(int(part) for part in re.findall(r"\d+", version)[:3]) < MINIMUM_PGVECTOR:
        raise RecdbError(
            f"pgvector {version} is too old: recdb needs {'.'.join(map(str, MINIMUM_PGVECTOR))} or newer",
            "upgrade pgvector on the server, then: alter extension vector update",
        )
    if not re.fullmatch(r"[^'$%@\\]+", schema):
        raise RecdbError(
            f"pgvector is in a schema whose name recdb cannot write into SQL: {schema}",
            "alter extension vector set schema <another schema>",
        )


def check_vector_owner(raw: psycopg.Connection) -> None:
    """Refuse pgvector in the schema of a role that could put other operators in the place of pgvector's."""
    found = find_vector_owner(raw)
    if found:
        schema, owner = found
        raise RecdbError(
            f"pgvector is in schema {schema} of {owner}, whose operators could run with the rights of recdb's owner",
            "a superuser runs: alter extension vector set schema public;",
        )


def check_vector_usage(raw: psycopg.Connection) -> None:
    """Refuse pgvector in a schema that recdb's owner may not use: every call would fail there."""
    found = find_closed_schema(raw)
    if found:
        schema, owner = found
        raise RecdbError(
            f"pgvector is in schema {schema}, which {owner} may not use: nothing was changed",
            f"the owner of that schema, or a superuser, runs: grant usage on schema {schema} to {owner};",
        )


def find_closed_schema(connection: psycopg.Connection) -> tuple[str, str] | None:
    """Return the schema of pgvector and recdb's owner, quoted, if this owner may not use the schema.

    Before recdb is installed, its owner is the current role.
    """
    row = connection.execute(
        """
        select quote_ident(n.nspname), quote_ident(r.rolname)
        from pg_extension e
        join pg_namespace n on n.oid = e.extnamespace
        join pg_roles r on r.oid = coalesce(
            (select o.nspowner from pg_namespace o where o.nspname = 'recdb'),
            (select c.oid from pg_roles c where c.rolname = current_user))
        where e.extname = 'vector' and not has_schema_privilege(r.oid, n.oid, 'usage')
        """
    ).fetchone()
    return (str(row[0]), str(row[1])) if row else None


def find_vector_owner(connection: psycopg.Connection) -> tuple[str, str] | None:
    """Return the schema of pgvector and its owner, quoted, if this owner may not act for recdb's owner anyway.

    Whoever owns a schema may rename it, and make another of that name. Trusted are superusers, the database's owner,
    and the roles that may become recdb's owner, who is the current role before recdb is installed.
    """
    row = connection.execute(
        """
        select quote_ident(n.nspname), quote_ident(r.rolname)
        from pg_extension e
        join pg_namespace n on n.oid = e.extnamespace
        join pg_roles r on r.oid = n.nspowner
        join pg_database d on d.datname = current_database()
        where e.extname = 'vector' and not r.rolsuper and r.rolname <> 'pg_database_owner' and r.oid <> d.datdba
          and not pg_has_role(r.oid, coalesce(
              (select o.nspowner from pg_namespace o where o.nspname = 'recdb'),
              (select c.oid from pg_roles c where c.rolname = current_user)), 'member')
        """
    ).fetchone()
    return (str(row[0]), str(row[1])) if row else None


def check_dimension(raw: psycopg.Connection, dimension: int | None) -> None:
    """Refuse another dimension than the one that recdb was installed with."""
    row = raw.execute(
        "select atttypmod from pg_attribute where attrelid = to_regclass('recdb.item_vector') and attname = 'embedding'"
    ).fetchone()
    if row and dimension not in (None, row[0]):
        raise InvalidInput(
            f"the vector columns are {row[0]} wide, and a dimension of {dimension} is no longer possible",
            "leave the dimension out, or: recdb uninstall, and install again",
        )


def check_schema_is_ours(connection: psycopg.Connection) -> None:
    """Refuse a schema that an application uses: an uninstall drops the schema with everything in it.

    The comment on the schema says that it is recdb's. Nobody but recdb has a schema of the default name.
    """
    schema = schema_of(connection) or DEFAULT_SCHEMA
    row = connection.execute(
        """
        select coalesce(obj_description(n.oid, 'pg_namespace'), '') like 'recdb: %%'
            or not exists (select from pg_class c where c.relnamespace = n.oid)
            and not exists (select from pg_proc p where p.pronamespace = n.oid)
            and not exists (select from pg_type t where t.typnamespace = n.oid)
        from pg_namespace n
        where n.nspname = %s::name
        """,
        [schema],
    ).fetchone()
    (quoted,) = fetch_row(connection, "select quote_ident(%s) <> %s", [schema, schema])
    if quoted:
        raise InvalidInput(f"{schema} is a word of SQL, and no name for a schema of recdb", "take another name")
    if row and not row[0] and schema != DEFAULT_SCHEMA:
        raise RecdbError(
            f"schema {schema} has objects that are not recdb's", "give recdb a schema of its own: --schema NAME"
        )
