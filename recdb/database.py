"""Finding a database and connecting to it: URLs, connections, scratch databases."""

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import sqlalchemy
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from recdb.embedded import embedded_folder, start_embedded, stop_embedded
from recdb.errors import InvalidInput, Unavailable

APPLICATION_NAME = "recdb"

# Query parameters that other tools put into URLs and libpq does not know: users paste URLs of Prisma and SQLAlchemy.
FOREIGN_PARAMETERS = frozenset(
    {
        "schema",
        "pgbouncer",
        "connection_limit",
        "pool_timeout",
        "socket_timeout",
        "statement_cache_size",
        "single_use_connections",
        "pool_size",
        "max_overflow",
        "sslaccept",
        "sslidentity",
    }
)


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


@dataclass(frozen=True)
class Database:
    """A database: its libpq connection string, and where this string comes from."""

    conninfo: str
    origin: str

    def __str__(self) -> str:
        """Describe the database in a message, without its password."""
        parts = conninfo_to_dict(self.conninfo)
        host, port = parts.get("host"), parts.get("port")
        place = f"{host or 'local'}{f':{port}' if port and not str(host).startswith('/') else ''}"
        return f"{parts.get('dbname') or parts.get('user') or 'default'} at {place} ({self.origin})"


def normalize_url(url: str) -> str:
    """Turn a PostgreSQL URL, as any tool spells it, into a libpq connection string.

    Understands `postgres://`, SQLAlchemy's `postgresql+driver://`, Prisma's query parameters, and libpq's
    own `key=value` strings. Raises InvalidInput for anything else.
    """
    url = url.strip()
    scheme, separator, rest = url.partition("://")
    if separator and "=" not in scheme:
        if scheme.lower().split("+")[0] not in ("postgres", "postgresql"):
            raise InvalidInput(
                f"not a PostgreSQL URL: its scheme is '{scheme}'",
                "write postgresql://user:password@host:5432/database",
            )
        # Do not parse the rest: libpq has its own rules for '+', '#', empty hosts and lists of hosts.
        place, _, query = rest.partition("?")
        kept = [part for part in query.split("&") if part and part.partition("=")[0] not in FOREIGN_PARAMETERS]
        url = f"postgresql://{place}{'?' if kept else ''}{'&'.join(kept)}"
    try:
        return make_conninfo(url)
    except psycopg.Error as error:
        raise InvalidInput(
            f"not a PostgreSQL URL: {str(error).strip()}",
            "write postgresql://user:password@host:5432/database",
        ) from error


def prepares_statements(url: str) -> bool:
    """Tell whether named prepared statements are safe; Prisma's `?pgbouncer=true` means that they are not."""
    return "pgbouncer=true" not in urlsplit(url).query.lower()


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


def find_database(url: str | None = None, environment: Mapping[str, str] | None = None) -> Database:
    """Find the database: `url`, else RECDB_DATABASE_URL, else DATABASE_URL, else the embedded server."""
    environment = os.environ if environment is None else environment
    if url:
        return Database(normalize_url(url), "given by --url")
    for variable in ("RECDB_DATABASE_URL", "DATABASE_URL"):
        if environment.get(variable):
            return Database(normalize_url(environment[variable]), f"from {variable}")
    folder = embedded_folder()
    return Database(start_embedded(folder), f"embedded server in {folder}")


def connect(database: Database | str, *, autocommit: bool = False) -> psycopg.Connection:
    """Open a connection with the settings PINNED; if that fails, raise Unavailable, which names the database."""
    if isinstance(database, str):
        database = Database(normalize_url(database), "given")
    try:
        connection = psycopg.connect(
            database.conninfo,
            autocommit=True,
            application_name=APPLICATION_NAME,
            connect_timeout=10,
            client_encoding="utf8",
        )
        # Only what differs is set: behind a pooler the session serves others after us.
        connection.execute(
            "select set_config(w.name, w.value, false) from unnest(%s::text[], %s::text[]) w(name, value) "
            "where current_setting(w.name, true) <> w.value "
            "and not (w.name = 'DateStyle' and current_setting(w.name) like 'ISO%%')",
            [list(PINNED), list(PINNED.values())],
        )
        connection.autocommit = autocommit
        return connection
    except psycopg.OperationalError as error:
        reason = str(error).strip().splitlines()[0].removeprefix("connection failed: ")
        raise Unavailable(
            f"cannot connect to {database}: {reason}", "is the server up, and is the URL right?"
        ) from error


def fetch_row(
    connection: psycopg.Connection,
    query: str | sql.SQL | sql.Composed,
    parameters: Sequence[Any] | Mapping[str, Any] | None = None,
) -> tuple[Any, ...]:
    """Run a query that gives one row, such as an aggregate, and return the row."""
    row: tuple[Any, ...] | None = connection.execute(query, parameters).fetchone()
    assert row is not None, "a query that gives one row gave none"
    return row


@contextmanager
def connect_engine(database: Database) -> Iterator[sqlalchemy.Connection]:
    """Open one SQLAlchemy connection over psycopg, for Alembic."""
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://", creator=lambda: connect(database), poolclass=sqlalchemy.NullPool
    )
    with engine.connect() as connection:
        yield connection
