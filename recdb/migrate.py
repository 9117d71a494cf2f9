"""Installing, upgrading and removing recdb's database objects.

The Alembic revisions in `migrations/` own what holds data; `sql/` holds what can be replaced whole and is
replayed after the last revision, in the same transaction.
"""

from pathlib import Path
from typing import Any

import alembic.command
import alembic.config
import psycopg
import sqlalchemy
from alembic import op
from psycopg import sql

from recdb.database import Database, connect
from recdb.errors import InvalidInput, NotInstalled, RecdbError

VERSION_TABLE = "alembic_version"
MINIMUM_PGVECTOR = (0, 8, 4)
MINIMUM_POSTGRESQL = 16
ROLES = ("recdb_reader", "recdb_writer", "recdb_analyst", "recdb_maintainer")
MAXIMUM_DIMENSION = 1024

# An advisory lock's key: "recdb" in ASCII. Twenty installs at once follow one another.
INSTALL_LOCK = 0x7265636462

# The views and functions that revisions own; every other one comes from sql/ and can be withdrawn.
REVISION_VIEWS = ("interactions", "items", "user_item")
REVISION_FUNCTIONS = ("decay", "interactions_of", "item_of", "users_since")


def database_folder() -> Path:
    """Find the folder that holds `migrations/` and `sql/`: in the wheel inside the package, in a checkout above it."""
    package = Path(__file__).parent
    packed = package / "_database"
    return packed if packed.is_dir() else package.parent


def administrator_statements() -> str:
    """Return the statements an administrator runs once, where recdb's owner is not a superuser."""
    lines = ["create extension if not exists vector;"]
    lines += [f"create role {role} nologin;" for role in ROLES]
    lines += [f"grant {role} to <the owner> with admin option;" for role in ROLES]
    return "\n".join(lines)


def alembic_config(database: Database, dimension: int | None = None) -> alembic.config.Config:
    """Build Alembic's configuration without an ini file, so that it works from an installed wheel."""
    config = alembic.config.Config()
    config.set_main_option("script_location", str(database_folder() / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["url"] = database.conninfo
    config.attributes["dimension"] = dimension
    return config


def upgrade(database: Database, *, dimension: int | None = None, revision: str = "head") -> None:
    """Migrate to `revision`; `dimension` is the width of the vector columns, fixed at the first install."""
    if dimension is not None and not 8 <= dimension <= MAXIMUM_DIMENSION:
        raise InvalidInput(f"a dimension of {dimension} is outside 8..{MAXIMUM_DIMENSION}")
    _run(alembic.command.upgrade, alembic_config(database, dimension), revision)


def downgrade(database: Database, revision: str) -> None:
    """Migrate down to `revision` ('base' leaves the empty schema, its version table and the roles)."""
    _run(alembic.command.downgrade, alembic_config(database), revision)


def _run(command: Any, config: alembic.config.Config, revision: str) -> None:
    try:
        command(config, revision)
    except sqlalchemy.exc.DBAPIError as error:
        raise RecdbError(f"the migration failed and changed nothing: {error.orig}") from error


def uninstall(database: Database) -> list[str]:
    """Remove the schema with all its data, `public.recommend`, and the roles no other database needs.

    Returns what was left and why, a line each.
    """
    left: list[str] = []
    with connect(database) as connection:
        connection.execute("select pg_advisory_xact_lock(%s)", [INSTALL_LOCK])
        _drop_replayed(connection)
        connection.execute("drop schema if exists recdb cascade")
        if _extension_is_ours(connection):
            try:
                with connection.transaction():
                    connection.execute("drop extension vector")
            except psycopg.errors.DependentObjectsStillExist:
                left.append("extension vector: other tables use it")
        for role in ROLES:
            try:
                with connection.transaction():
                    connection.execute(sql.SQL("drop role if exists {}").format(sql.Identifier(role)))
            except (psycopg.errors.DependentObjectsStillExist, psycopg.errors.InsufficientPrivilege) as error:
                left.append(f"role {role}: {str(error).splitlines()[0]}")
    return left


def installed_revision(connection: psycopg.Connection) -> str | None:
    """Return the revision the database is at, None when recdb is not there."""
    try:
        with connection.transaction():
            row = connection.execute("select version_num from recdb.alembic_version").fetchone()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return None
    return str(row[0]) if row else None


def newest_revision() -> str:
    """Return the newest revision this package knows."""
    config = alembic.config.Config()
    config.set_main_option("script_location", str(database_folder() / "migrations"))
    config.set_main_option("path_separator", "os")
    head = alembic.script.ScriptDirectory.from_config(config).get_current_head()
    assert head is not None
    return head


def require_installed(connection: psycopg.Connection) -> None:
    """Raise NotInstalled unless the database is at this package's newest revision."""
    found, wanted = installed_revision(connection), newest_revision()
    if found is None:
        raise NotInstalled("recdb is not installed in this database", "run: recdb init")
    if found != wanted:
        raise NotInstalled(f"the database is at revision {found}, this recdb needs {wanted}", "run: recdb init")


# What env.py and the revisions call -----------------------------------------------------------------------


def prepare(connection: sqlalchemy.Connection, dimension: int | None) -> None:
    """Lock, check the server and the rights, create the schema, and pin the search path for the revisions."""
    raw = _raw(connection)
    raw.execute("select pg_advisory_xact_lock(%s)", [INSTALL_LOCK])
    if raw.info.server_version < MINIMUM_POSTGRESQL * 10000:
        raise RecdbError(
            f"PostgreSQL {raw.info.server_version // 10000} is too old",
            f"recdb needs {MINIMUM_POSTGRESQL} or newer",
        )
    extension_schema = _ensure_pgvector(raw)
    try:
        raw.execute("create schema if not exists recdb")
    except psycopg.errors.InsufficientPrivilege as error:
        raise RecdbError(
            "this role may not create a schema in this database", "run recdb init as the database's owner"
        ) from error
    raw.execute("select set_config('recdb.dimension', %s, true)", [str(dimension or "")])
    raw.execute(sql.SQL("set local search_path = recdb, {}, pg_temp").format(sql.Identifier(extension_schema)))


def execute(statements: str) -> None:
    """Run a revision's SQL as written: several statements, no parameters."""
    _raw(op.get_bind()).execute(statements)


def withdraw() -> None:
    """Drop what was replayed from `sql/`, so that a revision can take its tables down."""
    _drop_replayed(_raw(op.get_bind()))


def create_roles() -> None:
    """Create the roles that are missing; they are the cluster's, so another database may have made them."""
    raw = _raw(op.get_bind())
    for role in ROLES:
        if raw.execute("select from pg_roles where rolname = %s", [role]).fetchone():
            continue
        try:
            with raw.transaction():
                raw.execute(sql.SQL("create role {} nologin").format(sql.Identifier(role)))
        except (psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
            continue
        except psycopg.errors.InsufficientPrivilege as error:
            raise RecdbError(
                f"the role {role} is missing and this role may not create it",
                f"an administrator runs once:\n{administrator_statements()}",
            ) from error


def replay(connection: sqlalchemy.Connection) -> None:
    """Replace everything in `sql/`, in the order of its file names."""
    raw = _raw(connection)
    _check_public_recommend(raw)
    for file in sorted((database_folder() / "sql").glob("*.sql")):
        raw.execute(file.read_text(encoding="utf-8"))


def _raw(connection: sqlalchemy.Connection) -> psycopg.Connection:
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver


def _ensure_pgvector(raw: psycopg.Connection) -> str:
    """Create the extension if it is missing; return its schema."""
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
                f"an administrator runs once:\n{administrator_statements()}",
            ) from error
        except (psycopg.errors.UndefinedFile, psycopg.errors.FeatureNotSupported) as error:
            raise RecdbError(
                "pgvector is not installed on this server",
                "install pgvector 0.8.4 or newer (Debian: postgresql-16-pgvector), then run recdb init again",
            ) from error
        found = raw.execute(query).fetchone()
    assert found is not None
    version, schema = found
    if tuple(int(part) for part in version.split(".")[:3]) < MINIMUM_PGVECTOR:
        raise RecdbError(
            f"pgvector {version} is too old: recdb needs {'.'.join(map(str, MINIMUM_PGVECTOR))} or newer",
            "upgrade pgvector on the server, then: alter extension vector update",
        )
    return str(schema)


def _extension_is_ours(raw: psycopg.Connection) -> bool:
    row = raw.execute(
        "select obj_description(oid, 'pg_extension') from pg_extension where extname = 'vector'"
    ).fetchone()
    return bool(row and row[0] == "pgvector, installed by recdb")


def _check_public_recommend(raw: psycopg.Connection) -> None:
    """Refuse to replace a `public.recommend` that an application made itself."""
    row = raw.execute(
        """
        select p.oid::regprocedure::text from pg_proc p
        where p.pronamespace = 'public'::regnamespace and p.proname = 'recommend'
          and coalesce(obj_description(p.oid, 'pg_proc'), '') not like '%recdb%'
        """
    ).fetchone()
    if row:
        raise RecdbError(
            f"this database has a function {row[0]} of its own",
            "rename it: recdb needs the name public.recommend",
        )
    allowed = raw.execute("select has_schema_privilege('public', 'create')").fetchone()
    if allowed and not allowed[0]:
        raise RecdbError(
            "this role may not create public.recommend",
            "run recdb init as the database's owner, or: grant create on schema public to <the owner>",
        )


def _drop_replayed(raw: psycopg.Connection) -> None:
    """Drop the views, functions and procedures that came from `sql/`."""
    views = raw.execute(
        """
        select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where n.nspname = 'recdb' and c.relkind = 'v' and c.relname <> all(%s)
        """,
        [list(REVISION_VIEWS)],
    ).fetchall()
    routines = raw.execute(
        """
        select p.oid::regprocedure::text from pg_proc p join pg_namespace n on n.oid = p.pronamespace
        where (n.nspname = 'recdb' and p.proname <> all(%s))
           or (n.nspname = 'public' and p.proname = 'recommend'
               and obj_description(p.oid, 'pg_proc') like '%%recdb%%')
        """,
        [list(REVISION_FUNCTIONS)],
    ).fetchall()
    for (view,) in views:
        raw.execute(f"drop view if exists {view} cascade")
    for (routine,) in routines:
        raw.execute(f"drop routine if exists {routine} cascade")
