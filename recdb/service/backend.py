"""The database behind the service: a limited pool, a time limit on every call, and the reason if a call fails."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import psycopg
from psycopg_pool import AsyncConnectionPool

from recdb.client import AsyncRecommender
from recdb.database import APPLICATION_NAME, Database, reasons_of
from recdb.errors import RecdbError, Unavailable
from recdb.replicas import MAX_LAG
from recdb.schemas import with_schema
from recdb.translate import translate

T = TypeVar("T")

POOL_WAIT = 2.0
"""Seconds that a request waits for a connection."""
MAX_WAITING = 200
"""Requests that may wait for a connection; others are refused at once. We count them, because a pool that counts them
itself does not reconnect."""
RECONNECT = 1.0
"""Seconds after which the pool gives up a lost connection; later requests make new ones."""
PROBE_LIMIT = 3.0
PROBE_KEPT = 1.0
"""Seconds for which the result of a probe is reused."""

OPTIONS: dict[str, Any] = {
    "application_name": APPLICATION_NAME,
    "autocommit": True,
    "connect_timeout": 5,
    "prepare_threshold": None,  # named statements do not survive a pgbouncer in transaction mode
}

# The active version and its age in seconds, for the metrics.
ACTIVE_MODEL = "select label, extract(epoch from now() - created_at)::float8 from recdb.models where active"


@dataclass(frozen=True)
class ActiveModel:
    """The active model version."""

    label: str
    age: float
    """Seconds since it was trained."""


class Backend:
    """The pool and the client on it; `timeout` (seconds) limits every call, with the wait for a connection.

    `standby` is read from while it is no more than `max_lag` seconds behind.
    """

    def __init__(
        self,
        database: Database,
        *,
        max_connections: int,
        timeout: float,
        standby: Database | None = None,
        max_lag: float = MAX_LAG,
    ) -> None:
        self.database = database
        self.standby = standby
        self.max_lag = max_lag
        self.max_connections = max_connections
        self.timeout = timeout
        self._pool: AsyncConnectionPool[Any] | None = None
        self._client: AsyncRecommender | None = None
        self._probing = asyncio.Lock()
        self._probed_at = -PROBE_KEPT
        self._reason: RecdbError | None = None
        self._asking = 0

    async def __aenter__(self) -> Self:
        self._pool = AsyncConnectionPool(
            self.database.conninfo,
            kwargs=OPTIONS,
            min_size=1,
            max_size=self.max_connections,
            timeout=POOL_WAIT,
            reconnect_timeout=RECONNECT,
            check=AsyncConnectionPool.check_connection,
            open=False,
        )
        await self._pool.open()
        self._client = AsyncRecommender(
            self._pool,
            schema=self.database.schema,
            read_url=self.standby.conninfo if self.standby else None,
            max_lag=self.max_lag,
            max_connections=self.max_connections,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.client.close()
        await self.pool.close()

    @property
    def client(self) -> AsyncRecommender:
        """The client that all requests share."""
        assert self._client is not None
        return self._client

    @property
    def pool(self) -> AsyncConnectionPool[Any]:
        """The pool, open while the service runs."""
        assert self._pool is not None
        return self._pool

    async def ask(self, call: Callable[[AsyncRecommender], Awaitable[T]]) -> T:
        """Call the client; raise its errors, or Unavailable with the reason if no answer comes in time."""
        if self._reason and (reason := await self.why_not_ready()):
            raise reason
        if self._asking >= self.max_connections + MAX_WAITING:
            raise Unavailable(f"{self._asking} requests are being answered already", "try again in a moment")
        self._asking += 1
        try:
            async with asyncio.timeout(self.timeout):
                return await call(self.client)
        except TimeoutError as error:
            raise Unavailable(
                f"the database gave no answer within {self.timeout:g} s", "try again, or raise --timeout"
            ) from error
        except Unavailable as error:
            raise await self.why_not_ready() or error from error
        finally:
            self._asking -= 1

    async def why_not_ready(self) -> RecdbError | None:
        """Return the error of a call for an unknown user, None if it succeeds; the standby may answer for the primary.

        The call does not use the pool, so that a busy pool does not count as an error.
        """
        async with self._probing:
            if time.monotonic() - self._probed_at >= PROBE_KEPT:
                self._reason = await self._probe(self.database)
                if self._reason and self.standby and await self._probe(self.standby) is None:
                    self._reason = None
                self._probed_at = time.monotonic()
            return self._reason or self.client.refusal

    async def _probe(self, database: Database) -> RecdbError | None:
        try:
            async with asyncio.timeout(PROBE_LIMIT):
                try:
                    connection = await psycopg.AsyncConnection.connect(database.conninfo, **OPTIONS)
                except psycopg.OperationalError as error:
                    reason = "; ".join(reasons_of(error))
                    return Unavailable(f"cannot connect to {database}: {reason}", "is the server up?")
                async with connection:
                    await AsyncRecommender(connection, schema=database.schema).recommend("", 1)
        except TimeoutError:
            return Unavailable(f"{database} gave no answer within {PROBE_LIMIT:g} s", "is the server up?")
        except psycopg.Error as error:
            return translate(error, self.database.schema)
        except RecdbError as error:
            return error
        return None

    async def active_model(self) -> ActiveModel | None:
        """Return the active version; None if there is none, or if the database does not answer."""
        try:
            async with asyncio.timeout(self.timeout), self.pool.connection() as connection:
                row = await (await connection.execute(with_schema(ACTIVE_MODEL, self.database.schema))).fetchone()
        except (TimeoutError, psycopg.Error):
            return None
        return ActiveModel(*row) if row else None
