"""The measured server: an embedded PostgreSQL, pgbouncer before it, and recdb's commands with their peak memory."""

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from recdb.database import Database, fetch_row
from recdb.embedded import start_embedded, stop_embedded
from recdb.errors import RecdbError

SETTINGS = {
    "shared_buffers": "3GB",
    "effective_cache_size": "8GB",
    "maintenance_work_mem": "1GB",
    "work_mem": "64MB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "15min",
    "max_connections": "50",
}
"""For 12 GB in all, including the job's memory. Every other setting, fsync too, is PostgreSQL's default."""


@contextmanager
def run_server(parent: Path | None, keep: str | None) -> Iterator[Database]:
    """Run a server with these settings in a folder below `parent` (the system's for temporary files, unless given).

    The folder is a new one, deleted after the block; or the one called `keep`, which stays.
    """
    parent = parent or Path(tempfile.gettempdir())
    folder = parent / keep if keep else Path(tempfile.mkdtemp(prefix="recdb-bench-", dir=parent))
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    try:
        conninfo = start_embedded(folder / "server", stop=True)
        with psycopg.connect(conninfo, autocommit=True) as connection:
            for name, value in SETTINGS.items():
                connection.execute(sql.SQL("alter system set {} = {}").format(sql.Identifier(name), sql.Literal(value)))
        stop_embedded(folder / "server")
        yield Database(start_embedded(folder / "server", stop=True), "benchmark")
    finally:
        stop_embedded(folder / "server")
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def copied(database: Database) -> Iterator[Database]:
    """Yield a copy of a database, dropped after the block; no client may be connected to the original at the start."""
    with psycopg.connect(database.conninfo, dbname="postgres", autocommit=True) as connection:
        original = sql.Identifier(conninfo_to_dict(database.conninfo)["dbname"])
        connection.execute("drop database if exists copied with (force)")
        connection.execute(sql.SQL("create database copied template {} strategy file_copy").format(original))
        try:
            yield Database(make_conninfo(database.conninfo, dbname="copied"), "benchmark")
        finally:
            connection.execute("drop database copied with (force)")


@contextmanager
def run_pgbouncer(database: Database) -> Iterator[tuple[str, str] | None]:
    """Run pgbouncer in transaction mode before a database: a connection string and pgbench's protocol.

    Yields None where pgbouncer is not installed, or cannot reach the server's socket. Named prepared statements work
    through pgbouncer from 1.21 on.
    """
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if program is None:
        yield None
        return
    version = subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout
    named = tuple(map(int, re.findall(r"\d+", version)[:2])) >= (1, 21)
    server = conninfo_to_dict(database.conninfo)
    folder = Path(tempfile.mkdtemp(prefix="recdb-bouncer-"))
    folder.chmod(0o777)
    (folder / "pgbouncer.ini").write_text(f"""
[databases]
recdb = host={server["host"]} port={server.get("port", 5432)} dbname={server["dbname"]} user={server["user"]}
[pgbouncer]
listen_addr =
unix_socket_dir = {folder}
listen_port = 6432
auth_type = any
pool_mode = transaction
default_pool_size = 8
logfile = {folder}/pgbouncer.log
{"max_prepared_statements = 100" if named else ""}
""")
    # pgbouncer refuses to run as root, and the server's socket is open to the server's user alone.
    as_user = ["-u", Path(server["host"]).owner()] if os.geteuid() == 0 else []
    process = subprocess.Popen(
        [program, "-q", *as_user, str(folder / "pgbouncer.ini")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        conninfo = make_conninfo(host=str(folder), port=6432, dbname="recdb", user=server["user"])
        yield (conninfo, "prepared" if named else "extended") if answers(conninfo) else None
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def answers(conninfo: str) -> bool:
    """Tell whether a server can be reached, within some seconds."""
    for pause in (0.05, 0.1, 0.2, 0.5, 1, 2):
        time.sleep(pause)
        with suppress(psycopg.OperationalError):
            psycopg.connect(conninfo, connect_timeout=2).close()
            return True
    return False


@dataclass(frozen=True)
class Ran:
    """The output and the cost of a command."""

    output: str
    seconds: float
    peak_mb: float
    """The largest resident memory of its process."""

    def to_json(self) -> dict[str, float]:
        """Return the figures."""
        return {"seconds": round(self.seconds, 2), "peak_mb": round(self.peak_mb)}


def recdb(database: Database, *arguments: str) -> Ran:
    """Run one of recdb's commands as a process of its own."""
    return run([sys.executable, "-m", "recdb.cli", *arguments, "--url", database.conninfo])


LAUNCHER = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""
"""A small process between this one and a command: a child's peak memory starts at that of its parent."""


def run(command: list[str], **environment: str) -> Ran:
    """Run a command; raises RecdbError where it fails."""
    began = time.monotonic()
    process = subprocess.run(
        [sys.executable, "-c", LAUNCHER, *command],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | environment, check=False,
    )  # fmt: skip
    *lines, peak = process.stdout.splitlines() or [""]
    if process.returncode:
        raise RecdbError(f"{' '.join(command[2:5])} failed:\n{process.stdout}")
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return Ran("\n".join(lines), time.monotonic() - began, int(peak) / unit)


def describe_machine(connection: psycopg.Connection) -> dict[str, Any]:
    """Describe the machine: cores, memory, versions and settings, but not its name."""
    pgvector = connection.execute("select extversion from pg_extension where extname = 'vector'").fetchone()
    return {
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "processor": platform.machine(),
        "python": platform.python_version(),
        "postgresql": fetch_row(connection, "show server_version")[0],
        "pgvector": pgvector[0] if pgvector else None,
        "settings": SETTINGS,
    }
