"""An HTTP service that runs beside a test."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
import uvicorn

from recdb.database import Database
from recdb.service import create_app
from recdb.service.limits import limits
from recdb.service.server import listen


@contextmanager
def serving(database: Database, *, held: Mapping[str, Any] | None = None, **options: Any) -> Iterator[httpx.Client]:
    """Run the service on a port of its own in a thread, and yield a client of it.

    `held` are the limits on what a client may hold, for limited_protocol().
    """
    application = create_app(database, **options)
    config = uvicorn.Config(application, log_config=None, access_log=False, lifespan="on", **limits(**(held or {})))
    server = uvicorn.Server(config)
    with listen("127.0.0.1", 0) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=30) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join()
