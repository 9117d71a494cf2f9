"""Limits for one client: the time to send a request, the size of its head, and the number of connections.

uvicorn waits without limit for the rest of a request. Connections that send half a request would then use up the
process's file descriptors, and nobody else could connect.
"""

import asyncio
import resource
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_BYTES = 16 * 1024
"""The largest head of a request: its line and its headers."""
READING = 20.0
"""Seconds that a client has to send a request: from the connection, or its first byte, to the end of the body."""
MOST_CONNECTIONS = 1000
RESERVED_FILES = 100
"""File descriptors that connections leave for the rest of the process."""


def connection_limit() -> int:
    """Return how many connections may be open at once."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (
        MOST_CONNECTIONS if files == resource.RLIM_INFINITY else max(10, min(MOST_CONNECTIONS, files - RESERVED_FILES))
    )


def limited_protocol(*, seconds: float = READING, most: int | None = None) -> type[H11Protocol]:
    """Make uvicorn's protocol for a server that closes connections which take more than `seconds` to send a request.

    If more than `most` connections are open, the one that has waited longest for its request to arrive is closed: a
    complete request is never closed for this.
    """
    limit = most or connection_limit()
    waiting: dict[H11Protocol, None] = {}  # in the order in which they began to wait

    class LimitedProtocol(H11Protocol):
        _reading: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._wait()
            if len(self.connections) > limit and waiting:
                next(iter(waiting)).transport.abort()

        def connection_lost(self, exc: Exception | None) -> None:
            self._arrived()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self._reading is None and self.conn.their_state is h11.IDLE:
                self._wait()
            super().data_received(data)
            # Between two requests nothing is pending; uvicorn's own timeout ends an idle connection.
            between = self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]
            if between or self.conn.their_state in (h11.DONE, h11.MUST_CLOSE, h11.CLOSED, h11.ERROR):
                self._arrived()

        def _wait(self) -> None:
            self._reading = self.loop.call_later(seconds, self.transport.abort)
            waiting[self] = None

        def _arrived(self) -> None:
            if self._reading is not None:
                self._reading.cancel()
                self._reading = None
            waiting.pop(self, None)

    return LimitedProtocol


def limits(**options: Any) -> dict[str, Any]:
    """Return the settings of uvicorn that hold these limits; the options are those of limited_protocol()."""
    return {
        "http": limited_protocol(**options),
        "h11_max_incomplete_event_size": HEAD_BYTES,
        "timeout_keep_alive": 5,
    }
