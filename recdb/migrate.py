"""Install, upgrade and remove recdb's database objects.

The Alembic revisions in `migrations/` create the tables, and the few views and functions that a replay must not change.
`sql/` holds all other views and functions: they hold no data, and all of them are replayed after the newest revision,
in the same transaction. Revisions do not use this module, which changes, but only the frozen helpers in
`recdb.revisions`.
"""

import glob
import threading
import time
from pathlib import Path
from typing import Any

import alembic.command
import alembic.config
import alembic.util
import psycopg
import sqlalchemy
from psycopg import sql

from recdb.callers import find_owner_as_caller
from recdb.citus import SPREAD_TABLES, is_distributed, keep_definitions_here, require_coordinator
from recdb.database import Database, connect, fetch_row, require_primary
from recdb.distribution import UPGRADE_COMMAND
from recdb.errors import InvalidInput, NotInstalled, RecdbError
from recdb.faults import reach
from recdb.preconditions import (
    MINIMUM_POSTGRESQL,
    administrator_statements,
    check_dimension,
    check_owner,
    check_schema_is_ours,
    check_vector_owner,
    check_vector_usage,
    ensure_pgvector,
    lock_out_installs,
)
from recdb.public import PUBLIC, claim, drop_stand_ins, may_make_public_recommend
from recdb.removal import remove
from recdb.repair import (
    find_failing_rows,
    find_lost_caller,
    find_missing,
    open_public,
    restore_public,
    restore_revision,
    restore_vectors,
    review,
)
from recdb.revisions import fill_in, vector_schema
from recdb.roles import DEFAULT_PREFIX, check_prefix, installed_prefix, role_comments, with_prefix
from recdb.schemas import DEFAULT_SCHEMA, describe_place, schema_of
from recdb.translate import translate

VERSION_TABLE = "alembic_version"
ROLES = tuple(role_comments())
MAXIMUM_DIMENSION = 1024

# While a migration waits for a table or view, its readers wait behind it: it waits for LOCK_TIMEOUT, rolls everything
# back, and tries again, ATTEMPTS times.
LOCK_TIMEOUT = "20ms"
ATTEMPTS = 40
PAUSE = 0.25

# Alembic has one context per process: two threads that migrate at once would use each other's connection.
_alembic_lock = threading.Lock()


def database_folder() -> Path:
    """Find the folder of `migrations/` and `sql/`: in a wheel inside the package, in a checkout above it."""
    package = Path(__file__).parent
    packed = package / "_database"
    return packed if packed.is_dir() else package.parent


def alembic_config(
    database: Database, dimension: int | None = None, role_prefix: str | None = None
) -> alembic.config.Config:
    """Build Alembic's configuration without an ini file, so that it works from an installed wheel."""
    config = alembic.config.Config()
    config.set_main_option("script_location", str(database_folder() / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["database"] = database
    config.attributes["dimension"] = dimension
    config.attributes["role_prefix"] = role_prefix
    config.attributes["remarks"] = []
    return config


def upgrade(
    database: Database, *, dimension: int | None = None, role_prefix: str | None = None, revision: str = "head"
) -> list[str]:
    """Migrate to `revision`, and repair the missing parts; return one line for each repair.

    The first install fixes `dimension`, the width of the vector columns, and `role_prefix`, with which the names of
    the roles begin ('recdb').
    """
    if dimension is not None and not 8 <= dimension <= MAXIMUM_DIMENSION:
        raise InvalidInput(f"a dimension of {dimension} is outside 8..{MAXIMUM_DIMENSION}")
    config = alembic_config(database, dimension, role_prefix)
    _run(alembic.command.upgrade, config, revision)
    if revision != "head":
        return list(config.attributes["remarks"])
    with connect(database, autocommit=True) as connection:
        callers = find_owner_as_caller(connection)
        return [
            *config.attributes["remarks"],
            *find_failing_rows(connection),
            *(["; ".join(callers)] if callers else []),
        ]


def downgrade(database: Database, revision: str) -> None:
    """Migrate down to `revision` ('base' leaves the empty schema, its version table and the roles)."""
    with connect(database) as connection:
        if any(is_distributed(connection, table) for table in SPREAD_TABLES):
            raise RecdbError("recdb is spread over nodes of Citus: nothing was changed", "recdb distribute --undo")
    _run(alembic.command.downgrade, alembic_config(database), revision)


def _run(command: Any, config: alembic.config.Config, revision: str) -> None:
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE)
        config.attributes["remarks"].clear()
        try:
            _try_to_run(command, config, revision)
        except psycopg.errors.LockNotAvailable as error:
            refusal = in_use(config.attributes["database"])
            if attempt == ATTEMPTS - 1:
                raise refusal from error
        else:
            return


def in_use(database: Database) -> RecdbError:
    """Return the error that another transaction uses recdb's tables."""
    return RecdbError(
        f"recdb's tables are in use by {find_blocker(database) or 'another transaction'}: nothing was changed",
        "run it again when that transaction has ended",
    )


def find_blocker(database: Database) -> str | None:
    """Describe the oldest other session that uses a table or view of schema recdb."""
    with connect(database) as connection:
        row = connection.execute(
            """
            select format('process %s (role %s, application %s, since %s)', a.pid, a.usename,
                coalesce(nullif(a.application_name, ''), 'unnamed'), date_trunc('second', a.xact_start))
            from pg_locks l
            join pg_class c on c.oid = l.relation and c.relnamespace = to_regnamespace('recdb')
            join pg_stat_activity a on a.pid = l.pid
            where l.granted and l.pid <> pg_backend_pid()
              and l.database = (select d.oid from pg_database d where d.datname = current_database())
            order by a.xact_start, a.pid
            limit 1
            """
        ).fetchone()
    return str(row[0]) if row else None


def _try_to_run(command: Any, config: alembic.config.Config, revision: str) -> None:
    try:
        with _alembic_lock:
            command(config, revision)
    except sqlalchemy.exc.DBAPIError as error:
        if isinstance(error.orig, psycopg.errors.LockNotAvailable):
            raise error.orig from error
        raise _failed(error.orig) from error
    except psycopg.errors.LockNotAvailable:
        raise
    except psycopg.Error as error:
        raise _failed(error) from error
    except alembic.util.CommandError as error:
        raise RecdbError(
            f"the database is at a revision that this recdb does not know: {error}", f"run: {UPGRADE_COMMAND}"
        ) from error


def _failed(error: BaseException | None) -> RecdbError:
    if not isinstance(error, psycopg.Error):
        return RecdbError(f"the migration failed and changed nothing: {error}")
    reason = error.diag.message_primary or str(error)
    hint = error.diag.message_detail or translate(error).hint
    return RecdbError(f"the migration failed and changed nothing: {reason}", hint)


def uninstall(database: Database) -> list[str]:
    """Remove the schema with all its data, its `public.recommend`, and the roles that nothing else needs.

    Returns one line for each role or extension that stays, with the reason. If the application has views or functions
    of its own on recdb's objects, nothing is removed and a RecdbError names them.
    """
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE)
        try:
            with connect(database) as connection:
                return remove(connection, LOCK_TIMEOUT)
        except psycopg.errors.LockNotAvailable as error:
            refusal = in_use(database)
            if attempt == ATTEMPTS - 1:
                raise refusal from error
    raise refusal


def installed_revision(connection: psycopg.Connection) -> str | None:
    """Return the revision of the database, None if recdb is not installed."""
    try:
        with connection.transaction():
            # In a schema that somebody else made, a view of this name could run functions with our rights.
            table = connection.execute(
                "select from pg_class where oid = to_regclass('recdb.alembic_version') and relkind = 'r'"
            ).fetchone()
            if table is None:
                return None
            row = connection.execute("select version_num from recdb.alembic_version").fetchone()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return None
    return str(row[0]) if row else None


def newest_revision() -> str:
    """Return the newest revision that this package knows."""
    config = alembic.config.Config()
    config.set_main_option("script_location", str(database_folder() / "migrations"))
    config.set_main_option("path_separator", "os")
    head = alembic.script.ScriptDirectory.from_config(config).get_current_head()
    assert head is not None
    return head


def knows_revision(revision: str) -> bool:
    """Tell whether this package has a revision; one that it does not have is of a newer recdb."""
    return any((database_folder() / "migrations" / "versions").glob(f"{glob.escape(revision)}_*.py"))


def require_installed(connection: psycopg.Connection) -> None:
    """Raise NotInstalled unless the database is at this package's newest revision."""
    found, wanted = installed_revision(connection), newest_revision()
    if found is None:
        require_coordinator(connection)
        raise NotInstalled(f"recdb is not installed in {describe_place(connection)}", "run: recdb init")
    if found != wanted:
        hint = "recdb init" if knows_revision(found) else UPGRADE_COMMAND
        raise NotInstalled(f"the database is at revision {found}, this recdb needs {wanted}", f"run: {hint}")


def require_whole(connection: psycopg.Connection) -> None:
    """Raise an error if recdb is not installed, or if something that it needs is gone; the hint says how to go on."""
    require_installed(connection)
    query = "select has_function_privilege(to_regprocedure('recdb.refuse_broken()'), 'execute')"
    with connection.transaction():
        (may_ask,) = fetch_row(connection, query)
        if may_ask is None:
            raise RecdbError("functions of recdb are missing", "run: recdb init")
        if may_ask:
            connection.execute("select recdb.refuse_broken()")


# Functions that migrations/env.py calls -------------------------------------------------------------------


def prepare(
    connection: sqlalchemy.Connection,
    dimension: int | None,
    role_prefix: str | None = None,
    remarks: list[str] | None = None,
) -> None:
    """Lock, check the server and the rights, create the schema, and set the search path for the revisions.

    Views, generated columns and functions look their names up while they are created. So no schema that others may
    write is on the path: `sql/` and the revisions name pgvector's schema themselves, see recdb.revisions.fill_in().
    """
    raw = _raw(connection)
    raw.execute("set local search_path = pg_catalog, pg_temp")
    require_primary(raw)
    lock_out_installs(raw)
    require_coordinator(raw)
    keep_definitions_here(raw)
    raw.execute("select set_config('lock_timeout', %s, true)", [LOCK_TIMEOUT])
    reach("prepared")
    if raw.info.server_version < MINIMUM_POSTGRESQL * 10000:
        raise RecdbError(
            f"PostgreSQL {raw.info.server_version // 10000} is too old",
            f"recdb needs {MINIMUM_POSTGRESQL} or newer",
        )
    found = restore_public(raw)
    ensure_pgvector(raw)
    check_vector_owner(raw)
    check_schema_is_ours(raw)
    check_owner(raw)
    check_vector_usage(raw)
    try:
        raw.execute("create schema if not exists recdb")
    except psycopg.errors.InsufficientPrivilege as error:
        raise RecdbError(
            "this role may not create a schema in this database", "run recdb init as the database's owner"
        ) from error
    found += restore_revision(raw)
    found += find_lost_caller(raw)
    if remarks is not None:
        remarks.extend(found)
    check_dimension(raw, dimension)
    _set_prefix(raw, role_prefix)
    raw.execute("select set_config('recdb.dimension', %s, true)", [str(dimension or "")])


def create_roles(connection: sqlalchemy.Connection) -> None:
    """Create the roles that are missing. Roles belong to the cluster: another database may have created them."""
    raw = _raw(connection)
    reach("migrated")
    raw.execute("set local lock_timeout = 0")  # an install in another database may be creating the same roles
    prefix = installed_prefix(raw)
    for role, comment in role_comments(prefix).items():
        known = raw.execute(
            "select rolcanlogin and coalesce(shobj_description(oid, 'pg_authid'), '') not like 'recdb: %%' "
            "from pg_roles where rolname = %s",
            [role],
        ).fetchone()
        if known and known[0]:
            raise RecdbError(
                f"a role {role} is here, and it may log in: recdb would give it rights and take it for its own",
                "rename it, or choose another prefix: recdb init --role-prefix NAME",
            )
        if known:
            continue
        try:
            with raw.transaction():
                raw.execute(sql.SQL("create role {} nologin").format(sql.Identifier(role)))
                raw.execute(sql.SQL("comment on role {} is {}").format(sql.Identifier(role), sql.Literal(comment)))
        except (psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
            continue
        except psycopg.errors.InsufficientPrivilege as error:
            raise RecdbError(
                f"the role {role} is missing and this role may not create it",
                f"an administrator runs once, in this database:\n{administrator_statements(raw, prefix)}",
            ) from error


def replay(connection: sqlalchemy.Connection, dimension: int | None = None, remarks: list[str] | None = None) -> None:
    """Replace everything in `sql/`, in the order of its file names, and repair the parts that it needs and reads."""
    found = replay_definitions(_raw(connection), dimension)
    if remarks is not None:
        remarks.extend(found)
    reach("replayed")


def replay_definitions(raw: psycopg.Connection, dimension: int | None = None) -> list[str]:
    """Do the work of replay() in an open transaction; return the repairs."""
    keep_definitions_here(raw)
    raw.execute("select set_config('lock_timeout', %s, true)", [LOCK_TIMEOUT])
    makes_public = may_make_public_recommend(raw)
    vector, prefix, schema = vector_schema(raw), installed_prefix(raw), schema_of(raw) or DEFAULT_SCHEMA
    found = find_missing(raw, vector)
    width, gone = restore_vectors(raw, vector, dimension)
    found += gone
    for file in sorted((database_folder() / "sql").glob("*.sql")):
        statements = file.read_text(encoding="utf-8").replace("@dimension@", str(width))
        if not makes_public:
            statements = PUBLIC.sub("pg_temp.", statements)
        # A cursor that writes no name in: fill_in() has written it.
        psycopg.Cursor(raw).execute(with_prefix(fill_in(statements, vector, schema), prefix))
    drop_stand_ins(raw)
    found += review(raw)
    raw.execute("select recdb.fit_functions()")
    if makes_public:
        claim(raw)
        found += open_public(raw, [f"{prefix}_reader", f"{prefix}_analyst"])
    return found


def _raw(connection: sqlalchemy.Connection) -> psycopg.Connection:
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver


def _set_prefix(raw: psycopg.Connection, prefix: str | None) -> None:
    """Keep the prefix of the roles in the schema's comment; refuse another one than that of the first install."""
    installed = installed_revision(raw)
    if prefix is not None:
        check_prefix(prefix)
        if installed and prefix != installed_prefix(raw):
            raise InvalidInput(
                f"the roles' names begin with {installed_prefix(raw)}_, and another prefix is no longer possible",
                "leave the prefix out, or: recdb uninstall, and install again",
            )
    if not installed:
        comment = f"recdb: recommendations inside PostgreSQL, with the roles {prefix or DEFAULT_PREFIX}_*"
        raw.execute(sql.SQL("comment on schema recdb is {}").format(sql.Literal(comment)))
