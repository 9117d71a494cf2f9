"""Real servers for the tests, from packages that contain PostgreSQL."""

import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
from psycopg.conninfo import make_conninfo

from recdb.database import Database


@dataclass(frozen=True)
class Server:
    """A running server, with the attributes that pytest-postgresql expects."""

    host: str
    port: int
    folder: Path
    user: str = "postgres"
    password: str = ""
    options: str = ""
    dbname: str = "tests"
    template_dbname: str = "template1"
    maintenance_dbname: str = "postgres"

    def conninfo(self, dbname: str) -> str:
        return make_conninfo(host=self.host, port=self.port, user=self.user, dbname=dbname)


def start_server(get: Any, folder: Path) -> tuple[Any, Server]:
    """Start a server in `folder` through a package's get_server()."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        handle = get(folder, cleanup_mode="delete")
    uri = urlsplit(handle.get_uri())
    host = parse_qs(uri.query).get("host", [uri.hostname or ""])[0]
    return handle, Server(host, uri.port or 5432, folder)


@contextmanager
def run_server(get: Any) -> Iterator[Server]:
    """Run a package's server in a folder of its own, fast rather than crash-safe, and remove it."""
    parent = Path(tempfile.mkdtemp(prefix="recdb-test-"))
    parent.chmod(0o755)
    handle, running = start_server(get, parent / "data")
    with psycopg.connect(running.conninfo("postgres"), autocommit=True) as connection:
        for setting in ("fsync = off", "synchronous_commit = off", "full_page_writes = off"):
            connection.execute(f"alter system set {setting}")
        connection.execute("select pg_reload_conf()")
    try:
        yield running
    finally:
        handle.cleanup()
        shutil.rmtree(parent, ignore_errors=True)


def database_maker(server: Server) -> Callable[[], Database]:
    """Return a function that makes an empty database (without recdb) on a server; they are removed with the server."""
    numbers = count()

    def make() -> Database:
        name = f"empty_{next(numbers)}"
        with psycopg.connect(server.conninfo("postgres"), autocommit=True) as connection:
            connection.execute(f"create database {name} template template0")
        return Database(server.conninfo(name), "test")

    return make
