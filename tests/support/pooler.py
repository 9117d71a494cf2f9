"""A pgbouncer in front of a test server."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from socket import create_server

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from support.servers import Server
from support.waiting import until

from recdb.database import Database


def free_port() -> int:
    """Find a free port."""
    with closing(create_server(("127.0.0.1", 0))) as taken:
        return int(taken.getsockname()[1])


@contextmanager
def run_pgbouncer(
    server: Server, database: Database, role: str = "postgres", mode: str = "transaction", size: int = 2
) -> Iterator[Database]:
    """Run a pgbouncer with `size` connections to the server; yield `database` as `role` reaches it there."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
    if program is None:
        pytest.skip("pgbouncer is not installed")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="recdb-pooler-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "users").write_text(f'"{role}" ""\n')
        (folder / "pgbouncer.ini").write_text(
            f"[databases]\n* = host={server.host} port={server.port}\n[pgbouncer]\npool_mode = {mode}\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\ndefault_pool_size = {size}\n"
            f"auth_type = trust\nauth_file = {folder / 'users'}\n"
        )
        owner = server.folder.stat()  # pgbouncer refuses to run as root
        command = [program, str(folder / "pgbouncer.ini")]
        pooled = make_conninfo(database.conninfo, user=role, host="127.0.0.1", port=port)
        with subprocess.Popen(command, user=owner.st_uid, group=owner.st_gid, stderr=subprocess.DEVNULL) as running:
            try:
                until(lambda: _answers(pooled))
                yield Database(pooled, "test")
            finally:
                running.terminate()


def _answers(conninfo: str) -> bool:
    try:
        psycopg.connect(conninfo).close()
    except psycopg.OperationalError:
        return False
    return True
