"""Running the service: a socket, uvicorn, and a stop that lets running requests finish."""

import logging
import signal
import socket
import sys

import uvicorn

from recdb.database import Database
from recdb.errors import RecdbError
from recdb.replicas import MAX_LAG
from recdb.service import logs
from recdb.service.app import create_app
from recdb.service.limits import limits

GRACE = 30
"""Seconds that running requests have to finish after SIGTERM."""

BACKLOG = 2048

log = logging.getLogger("recdb.service")


def serve(
    database: Database,
    *,
    host: str,
    port: int,
    max_connections: int,
    timeout: float,
    standby: Database | None = None,
    max_lag: float = MAX_LAG,
) -> None:
    """Serve until SIGTERM or SIGINT, and then finish the running requests.

    Port 0 means any free port; the log says which. Raises RecdbError if the address is not available.
    """
    app = create_app(database, max_connections=max_connections, timeout=timeout, standby=standby, max_lag=max_lag)
    with listen(host, port) as listening:
        logs.configure()
        # uvicorn finishes requests on SIGTERM and then raises it again, for the handler that was there before.
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
        address = f"[{host}]" if ":" in host else host
        url = f"http://{address}:{listening.getsockname()[1]}"
        places = {"database": str(database)} | ({"standby": str(standby)} if standby else {})
        log.info("listening", extra={"fields": {"url": url} | places})
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="on",
            timeout_graceful_shutdown=GRACE,
            **limits(),
        )
        uvicorn.Server(config).run(sockets=[listening])


def listen(host: str, port: int) -> socket.socket:
    """Listen on an address; raise RecdbError if it is in use or not an address of this machine."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol must be TCP explicitly: else asyncio does not set TCP_NODELAY, and answers wait 40 ms for an ACK.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        reason = error.strerror or str(error)
        raise RecdbError(f"cannot listen on {host} port {port}: {reason}", "pass another --host or --port") from error
    return listening
