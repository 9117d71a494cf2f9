"""A cable to a test server that a test can cut."""

import contextlib
import socket
import tempfile
import threading
from pathlib import Path

from psycopg.conninfo import make_conninfo
from support.servers import Server

from recdb.database import Database


class Cable:
    """A socket that passes everything on to a server, until cut() closes both ends of every connection."""

    def __init__(self, server: Server) -> None:
        self.beyond = f"{server.host}/.s.PGSQL.{server.port}"
        self.folder = tempfile.TemporaryDirectory(prefix="recdb-cable-")
        self.ends: list[socket.socket] = []
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(str(Path(self.folder.name) / ".s.PGSQL.5432"))
        self.listening.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def to(self, database: Database) -> Database:
        """The database as it is reached through the cable."""
        return Database(make_conninfo(database.conninfo, host=self.folder.name, port=5432), "test")

    def cut(self) -> None:
        """Close everything, as a network that fails does."""
        for end in [self.listening, *self.ends]:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self.folder.cleanup()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.listening.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect(self.beyond)
                self.ends += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=[source, sink], daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
