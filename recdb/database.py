"""Finding a database and connecting to it: URLs, connections, scratch databases."""

import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import Row

from recdb.embedded import embedded_folder, start_embedded, stop_embedded
from recdb.errors import RecdbError, Unavailable
from recdb.schemas import DEFAULT_SCHEMA, check_schema, use_schema
from recdb.urls import describe_url, normalize_url, prepares_statements, socket_url

__all__ = [
    "Database",
    "connect",
    "connect_engine",
    "fetch_row",
    "find_database",
    "find_schema",
    "normalize_url",
    "prepares_statements",
    "require_primary",
    "scratch_database",
]

APPLICATION_NAME = "recdb"

# The search path of every connection and of every function that runs as the owner: no schema that others may write.
SEARCH_PATH = "pg_catalog,pg_temp"


# What a role or a database may have set otherwise, and what the commands of recdb rely on: their statements may take
# long, wait, and see what others commit, and psycopg reads dates and intervals in these styles only.
PINNED = {
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "default_transaction_deferrable": "off",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "transaction_timeout": "0",
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
    "quote_all_identifiers": "off",
    "transform_null_equals": "off",
    "array_nulls": "on",
    "row_security": "on",
    "plan_cache_mode": "auto",
    "client_min_messages": "notice",
}


# libpq's parameters, in seconds, but for the count and for tcp_user_timeout (milliseconds).
KEEPALIVES = {
    "keepalives_idle": 60,
    "keepalives_interval": 15,
    "keepalives_count": 4,
    "tcp_user_timeout": 120_000,
}


@dataclass(frozen=True)
class Database:
    """A database: its libpq connection string, where this string comes from, and the schema of the recommender."""

    conninfo: str
    origin: str
    schema: str = DEFAULT_SCHEMA

    def __str__(self) -> str:
        """Describe the database in a message, without its password."""
        schema = "" if self.schema == DEFAULT_SCHEMA else f", schema {self.schema}"
        return f"{describe_url(self.conninfo)} ({self.origin}){schema}"


@contextmanager
def scratch_database(url: str | None = None) -> Iterator[Database]:
    """Create an empty database, and drop it after the block.

    It is in an embedded server of its own, or, with `url`, on the server of that database.
    """
    if url is None:
        parent = Path(tempfile.mkdtemp(prefix="recdb-"))
        parent.chmod(0o755)
        try:
            yield Database(start_embedded(parent / "server", temporary=True), "scratch")
        finally:
            stop_embedded(parent / "server")
            shutil.rmtree(parent, ignore_errors=True)
        return
    name = f"recdb_scratch_{uuid.uuid4().hex[:12]}"
    with connect(Database(normalize_url(url), "given by --url"), autocommit=True) as connection:
        connection.execute(sql.SQL("create database {} template template0").format(sql.Identifier(name)))
        try:
            yield Database(make_conninfo(normalize_url(url), dbname=name), "scratch")
        finally:
            connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def find_database(
    url: str | None = None, environment: Mapping[str, str] | None = None, schema: str | None = None
) -> Database:
    """Find the database: `url`, else RECDB_DATABASE_URL, else DATABASE_URL, else the embedded server.

    The recommender is in `schema`, else in RECDB_SCHEMA, else in schema recdb. Raises InvalidInput for a name that
    cannot be one.
    """
    environment = os.environ if environment is None else environment
    schema = find_schema(schema, environment)
    if url:
        return Database(normalize_url(url), "given by --url", schema)
    for variable in ("RECDB_DATABASE_URL", "DATABASE_URL"):
        if environment.get(variable):
            return Database(normalize_url(environment[variable]), f"from {variable}", schema)
    folder = embedded_folder()
    conninfo = start_embedded(folder)
    return Database(conninfo, f"embedded server, {socket_url(conninfo)}", schema)


def find_schema(schema: str | None = None, environment: Mapping[str, str] | None = None) -> str:
    """Find the schema of the recommender: `schema`, else RECDB_SCHEMA, else recdb."""
    environment = os.environ if environment is None else environment
    return check_schema(schema or environment.get("RECDB_SCHEMA") or DEFAULT_SCHEMA)


def connect(database: Database | str, *, autocommit: bool = False) -> psycopg.Connection:
    """Open a connection that looks names up in pg_catalog alone, with the settings PINNED.

    Its statements run with all rights of the role, often recdb's owner. An operator or a function that another role
    made in `public` could fit one of them better than PostgreSQL's own, and would run with these rights. So statements
    name every other schema: they say `recdb`, and the cursors write the schema of `database` in its place. Raises
    Unavailable, which names the database, if it cannot connect.
    """
    if isinstance(database, str):
        database = Database(normalize_url(database), "given")
    own = conninfo_to_dict(database.conninfo).get("options") or os.environ.get("PGOPTIONS") or ""
    # On a standby, a session that is serializable by default could not run the statement that changes it.
    isolation = PINNED["default_transaction_isolation"].replace(" ", "\\ ")
    options = f"{own} -c search_path={SEARCH_PATH} -c default_transaction_isolation={isolation}".strip()
    try:
        connection = _open(database, autocommit=True, options=options)
    except psycopg.OperationalError as error:
        if "startup parameter" not in str(error):
            raise _unreachable(database, error) from error
        try:  # a pooler that passes no settings on, and may give each transaction another session
            connection = _open(database, autocommit=True, prepare_threshold=None)
        except psycopg.OperationalError as again:
            raise _unreachable(database, again) from again
    use_schema(connection, database.schema)
    try:
        require_safe_path(connection)
        pin_settings(connection)
    except BaseException:
        connection.close()
        raise
    connection.autocommit = autocommit
    return connection


def pin_settings(connection: psycopg.Connection) -> None:
    """Set the settings that the statements of recdb rely on; only those that differ, since behind a pooler others
    get the session."""
    connection.execute(
        "select set_config(w.name, w.value, false) from unnest(%s::text[], %s::text[]) w(name, value) "
        "where current_setting(w.name, true) <> w.value "
        "and not (w.name = 'DateStyle' and current_setting(w.name) like 'ISO%%')",
        [list(PINNED), list(PINNED.values())],
    )


def _open(database: Database, **options: Any) -> psycopg.Connection:
    # A connection that was cut without a word ends after two minutes, and not after PostgreSQL's or the system's hours.
    given = conninfo_to_dict(database.conninfo)
    options |= {name: value for name, value in KEEPALIVES.items() if name not in given}
    return psycopg.connect(
        database.conninfo, application_name=APPLICATION_NAME, connect_timeout=10, client_encoding="utf8", **options
    )


def _unreachable(database: Database, error: psycopg.OperationalError) -> Unavailable:
    reason = "; ".join(reasons_of(error))
    hint = next((hint for said, hint in REFUSALS.items() if said in reason), "is the server up, and is the URL right?")
    return Unavailable(f"cannot connect to {database}: {reason}", hint)


def reasons_of(error: psycopg.OperationalError) -> list[str]:
    """Return the reason for each server of a URL, or for the only one, why it could not be reached."""
    first, *others = str(error).strip().splitlines()
    found = [re.sub(r"^- host: .*?hostaddr: \S+: ", "", line) for line in others if line.startswith("- host: ")]
    return list(dict.fromkeys(re.sub(r"^connection (failed|is bad): ", "", line) for line in found or [first]))


REFUSALS = {  # by what the server, or libpq, says
    "authentication failed": "check the user and the password in the URL",
    "no password supplied": "write the password into the URL, or into PGPASSWORD",
    "no pg_hba.conf entry": "the server does not let this user in from here: its pg_hba.conf says who may connect",
    "does not exist": "create it, or correct its name in the URL",
    "session is read-only": "no server of the URL takes writes: promote a standby, or start the primary",
    "server is in hot standby mode": "no server of the URL is a primary: promote a standby, or start the primary",
    "server is not in hot standby mode": "no standby of the URL answers; target_session_attrs=prefer-standby takes the "
    "primary then",
    "too many": "close other connections, or raise max_connections",
    "starting up": "run it again in a moment",
    "shutting down": "run it again when the server is up",
    "translate host name": "is the name of the host in the URL right?",
    "certificate": "see sslmode and sslrootcert in the documentation of libpq",
}


def require_safe_path(connection: psycopg.Connection) -> None:
    """Raise Unavailable if a pooler dropped our search path and others may write to a schema on the one we have."""
    (path,) = fetch_row(connection, "select pg_catalog.current_setting('search_path'::pg_catalog.text)")
    unsafe = [] if path == SEARCH_PATH else split_path(connection)[1]
    if not connection.autocommit:
        connection.rollback()
    if unsafe:
        raise Unavailable(
            f"this connection ignores recdb's search_path, and others may create in its schema {unsafe[0]}",
            "connect to PostgreSQL directly instead of through a pooler",
        )


def split_path(connection: psycopg.Connection) -> tuple[list[str], list[str]]:
    """Split the schemas on the search path: those that only this role and its members write, and the others.

    The query names everything by schema and compares exact types only, so that it cannot be taken over itself.
    """
    rows = connection.execute(
        """
        select s.name::pg_catalog.text, exists (
            select from pg_catalog.pg_roles r
            where not r.rolsuper
              and r.rolname operator(pg_catalog.<>) 'pg_database_owner'::pg_catalog.name
              and not pg_catalog.pg_has_role(r.oid, current_user, 'member'::pg_catalog.text)
              and pg_catalog.has_schema_privilege(r.oid, n.oid, 'create'::pg_catalog.text))
        from pg_catalog.unnest(pg_catalog.current_schemas(false)) with ordinality s(name, place)
        join pg_catalog.pg_namespace n on n.nspname operator(pg_catalog.=) s.name
        order by s.place
        """
    ).fetchall()
    return [name for name, written in rows if not written], [name for name, written in rows if written]


def callers_path(database: Database) -> str:
    """Return the search path that a connection has without ours: the user's own, for names in arguments."""
    with _open(database) as connection:
        (path,) = fetch_row(connection, "select pg_catalog.current_setting('search_path'::pg_catalog.text)")
    return str(path)


def fetch_row(
    connection: psycopg.Connection[Row] | psycopg.Cursor[Row],
    query: str | sql.SQL | sql.Composed,
    parameters: Sequence[Any] | Mapping[str, Any] | None = None,
) -> Row:
    """Run a query that gives one row, such as an aggregate, and return the row as the row_factory makes it."""
    row = connection.execute(query, parameters).fetchone()
    assert row is not None, "a query that gives one row gave none"
    return row


PRIMARY_HINT = (
    "run this command on the primary; with several hosts in the URL, add target_session_attrs=read-write to it"
)


def require_primary(connection: psycopg.Connection) -> None:
    """Raise RecdbError if the server is a standby, where nothing can be written."""
    (standby,) = fetch_row(connection, "select pg_is_in_recovery()")
    if standby:
        raise RecdbError("this server is a standby, which is read-only", PRIMARY_HINT)


@contextmanager
def connect_engine(database: Database) -> Iterator[sqlalchemy.Connection]:
    """Open one SQLAlchemy connection over psycopg, for Alembic."""
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://", creator=lambda: connect(database), poolclass=sqlalchemy.NullPool
    )
    with engine.connect() as connection:
        yield connection
