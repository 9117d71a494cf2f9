"""Run every caller against a temporary database, directly and through pgbouncer in transaction mode.

    python run.py [CALLER ...]

Each caller beside this file reads DATABASE_URL and USER_ID from the environment and fails if an answer is wrong.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "application"))

from serve import PROGRAMS, Server, free_port, run_server  # noqa: E402

PYTHON, TSX = [sys.executable], ["node", "--import", "tsx"]
CALLERS = {
    "node-postgres": [*TSX, "node-postgres.ts"],
    "postgres.js": [*TSX, "postgres-js.ts"],
    "Drizzle": [*TSX, "drizzle.ts"],
    "Prisma": [*TSX, "prisma.ts"],
    "psycopg": [*PYTHON, "with_psycopg.py"],
    "SQLAlchemy": [*PYTHON, "with_sqlalchemy.py"],
}


def run_caller(command: list[str], url: str, user: str) -> None:
    """Run a caller. Raises CalledProcessError if it fails."""
    environment = {**os.environ, "DATABASE_URL": url, "USER_ID": user, "TSX_DISABLE_CACHE": "1"}
    subprocess.run(command, cwd=HERE, env=environment, check=True)


def run_psql(url: str, user: str) -> None:
    """Run psql.sql and check that each line of its output is true."""
    command = [str(PROGRAMS / "psql"), url, "-XqAt", "-v", "ON_ERROR_STOP=1", "-v", f"user={user}"]
    answer = subprocess.run([*command, "-f", HERE / "psql.sql"], check=True, stdout=subprocess.PIPE, text=True)
    if set(answer.stdout.split()) != {"t"}:
        raise SystemExit(f"psql: {answer.stdout}")


def run_migrations(url: str) -> None:
    """Run the migrations of Drizzle and Prisma beside recdb, as the owner of the tables. Raises CalledProcessError."""
    environment = {**os.environ, "DATABASE_URL": url}
    for command in ([*PYTHON, "drizzle_migrations.py"], ["node", "migrations.mjs"]):
        subprocess.run(command, cwd=HERE, env=environment, check=True)


@contextmanager
def pgbouncer(server: Server) -> Iterator[str | None]:
    """Run pgbouncer in front of the server and yield its URL, or None if pgbouncer is not installed."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        yield None
        return
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="recdb-pgbouncer-") as folder:
        Path(folder).chmod(0o755)
        settings = Path(folder) / "pgbouncer.ini"
        settings.write_text(
            f"""
[databases]
app = host=127.0.0.1 port={server.port} dbname=app user=feed

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 2
ignore_startup_parameters = extra_float_digits
"""
        )
        command = [program, "-q", *(["-u", server.user] if server.user else []), str(settings)]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            wait_for(port)
            yield f"postgresql://feed@127.0.0.1:{port}/app"
        finally:
            process.terminate()
            process.wait()


def wait_for(port: int) -> None:
    """Wait until a program listens on a port."""
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise SystemExit(f"no program listens on port {port}")


def main() -> None:
    """Run the callers that the command line names, or all."""
    wanted = sys.argv[1:] or [*CALLERS, "psql", "migrations"]
    with run_server(users=300, posts=300, interactions=10_000) as server, pgbouncer(server) as pooled:
        with psycopg.connect(server.url("postgres")) as connection:
            (user,) = connection.execute('select id from "user" order by id limit 1').fetchone() or ("",)
        urls = {"straight": server.url("feed"), "pgbouncer": pooled}
        for name in wanted:
            for way, url in urls.items():
                if url is None:
                    print(f"{name}, {way}: not run, pgbouncer is not installed")
                elif name == "migrations":
                    if way == "straight":
                        run_migrations(server.url("postgres"))
                        print("migrations of Drizzle and Prisma beside recdb: ok")
                elif name == "psql":
                    run_psql(url, user)
                    print(f"{name}, {way}: ok")
                else:
                    run_caller(CALLERS[name], url, user)
                    print(f"{name}, {way}: ok", flush=True)


if __name__ == "__main__":
    main()
