"""Reading from a standby, or from the primary where the standby does not suffice: helpers of recdb.client.

A read goes to the standby if it has replayed the last write of the call's user, and is no further behind than
`max_lag`. Else it goes to the primary: also if the standby is away, has no connection to spare, or cancels the query
because of the replay. If the primary is away too, the standby answers as it is: a list that lacks the last click is
better than none. A read takes one round trip: the check and the call go together, and the call returns nothing and
runs nothing if the check fails. They are two statements, because a statement sees the rows of the moment at which it
began, and the standby replays meanwhile.
"""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from math import inf, isfinite, nan
from numbers import Real
from typing import Any

import psycopg
import sqlalchemy
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import class_row
from psycopg_pool import AsyncConnectionPool, ConnectionPool, PoolTimeout

from recdb.arguments import Id, id_of
from recdb.calls import Call, Name, Row
from recdb.database import APPLICATION_NAME, KEEPALIVES, Database
from recdb.errors import InvalidInput, RecdbError, Unavailable
from recdb.identity import ASKED, BEGIN, COMPARE_WAIT, NOTHING_TO_COMPARE, SameDatabase
from recdb.positions import END, Positions, number_of_position, text_of_position
from recdb.schemas import with_schema
from recdb.translate import translate
from recdb.urls import EXAMPLE, normalize_url

VARIABLE = "RECDB_READ_URL"
MAX_LAG = 60.0
"""Seconds: twice the max_standby_streaming_delay of PostgreSQL, for which a long query may hold the replay back."""
LONGEST_LAG = 1e9
"""Some thirty years: more than any standby is behind, and a time that both sides can hold."""
HINT_LAG = "write 60 for a minute, or float('inf') for any lag"
WAIT = 1.0
"""Seconds that a read waits for a connection to the standby."""
REST = 5.0
"""Seconds for which nobody tries a standby that gave no connection."""
PRIMARY_REST = 30.0
"""Seconds for which reads do not try a primary that gave no connection. A write that succeeds ends it."""
LIFETIME = 300.0
"""Seconds after which a connection is made again, so that reads find a standby that has come back."""

OPTIONS: Mapping[str, Any] = KEEPALIVES | {
    "application_name": APPLICATION_NAME,
    "autocommit": True,
    "connect_timeout": 3,
    "tcp_user_timeout": 3_000,
    "prepare_threshold": None,  # named statements do not survive a pgbouncer in transaction mode
}
CHECK = "select pg_catalog.set_config('recdb_read.fresh', recdb.replayed(%s::pg_lsn, %s::interval)::text, true)"
POSITION = Call("select pg_current_wal_insert_lsn()::text as value", [], Name, users=())
Ask = Callable[[Call[Any]], list[Any]]
AsyncAsk = Callable[[Call[Any]], Awaitable[list[Any]]]
IDENTITY = Call(ASKED, [], Name, users=())

log = logging.getLogger("recdb.replicas")


def find_read_database(
    read_url: str | sqlalchemy.URL | None,
    source: object,
    schema: str,
    environment: Mapping[str, str] | None = None,
) -> Database | None:
    """Find the standby to read from beside the primary `source`: `read_url`, else RECDB_READ_URL, else None.

    The variable belongs to the database that the environment names: it counts only without a `source`. A blank text
    means none. Raises InvalidInput for anything that is no URL, and for a source that reads in its own transaction.
    """
    environment = os.environ if environment is None else environment
    if isinstance(read_url, sqlalchemy.URL):
        read_url = read_url.render_as_string(hide_password=False)
    if read_url is not None and not isinstance(read_url, str):
        raise InvalidInput(f"read_url is of type {type(read_url).__name__}, and must be a URL", EXAMPLE)
    # libpq would read a blank text as the server of this machine.
    read_url = read_url and read_url.strip()
    if read_url and hasattr(source, "rollback"):
        raise InvalidInput(
            f"read_url is for a URL, a pool or an engine: a {type(source).__name__} reads in its own transaction",
            "leave read_url out, or pass a URL",
        )
    if read_url is None:
        found = "" if source is not None else environment.get(VARIABLE, "").strip()
        return Database(normalize_url(found), f"from {VARIABLE}", schema) if found else None
    return Database(normalize_url(read_url), "given by --read-url", schema) if read_url else None


def read_lag(max_lag: object) -> timedelta | None:
    """Return the largest lag of a standby, None for any; raise InvalidInput for no number of seconds above 0."""
    try:
        number = float(max_lag) if isinstance(max_lag, Real) and not isinstance(max_lag, bool) else nan
    except OverflowError:
        number = nan
    if not number > 0 or LONGEST_LAG < number < inf:
        shown = f"{max_lag!r:.40}"
        raise InvalidInput(f"max_lag is {shown}, and must be a number of seconds above 0", HINT_LAG)
    return timedelta(seconds=number) if isfinite(number) else None


class Reads:
    """The state that Replica and AsyncReplica share: the users' positions, and which server is worth a try."""

    def __init__(self, database: Database, max_lag: timedelta | None) -> None:
        self.database = database
        self.positions = Positions()
        self.counts = {"standby": 0, "primary": 0}
        """The reads that each server answered."""
        self._max_lag = max_lag
        given = conninfo_to_dict(database.conninfo)
        self._options = {name: value for name, value in OPTIONS.items() if name not in given}
        self._check = with_schema(CHECK, database.schema)
        self._identity_of = IDENTITY.in_schema(database.schema)
        self.comparison = SameDatabase(database)
        self._standby_from = self._primary_from = self._answered_at = 0.0
        self._complaint: str | None = None
        self._lock = threading.Lock()

    def _needs(self, call: Call[Row]) -> list[Any]:
        """Return the parameters of the check for a call."""
        return [text_of_position(self.positions.of(call.user_ids())), self._max_lag]

    def _cancelled(self, began: float) -> None:
        """Leave the standby alone if a caller's time limit ended a read there."""
        if time.monotonic() - began > WAIT:
            self._standby_from = time.monotonic() + REST

    def _rests(self) -> bool:
        return time.monotonic() < self._standby_from

    def _primary_rests(self) -> bool:
        return time.monotonic() < self._primary_from

    def _count(self, server: str) -> None:
        with self._lock:
            self.counts[server] += 1
        if server == "standby":
            self._answered_at, self._complaint = time.monotonic(), None

    def _failed(self, error: psycopg.Error) -> None:
        """Remember that the standby failed; raise the error if the primary would give the same."""
        state = error.sqlstate or ""
        if state[:2] == "22" or (state == "57014" and "recovery" not in str(error)):
            raise translate(error, self.database.schema) from error
        # A pool whose connections are all busy is no reason to leave the standby alone.
        if isinstance(error, PoolTimeout) and time.monotonic() - self._answered_at > WAIT:
            self._standby_from = time.monotonic() + REST
        complaint = state or type(error).__name__
        if complaint != self._complaint:
            self._complaint = complaint
            reason = str(translate(error, self.database.schema))
            log.warning("reading at the primary instead of %s: %s", self.database, reason)

    def _primary_failed(self, error: Unavailable) -> bool:
        """Tell whether the primary is away, and not only slow; if so, remember it."""
        state = getattr(error.__cause__, "sqlstate", None) or ""
        away = state[:2] in ("", "08", "53", "57") and state != "57014"
        if away:
            self._primary_from = time.monotonic() + PRIMARY_REST
        return away

    def _wrote(self, call: Call[Row], position: str | None) -> None:
        self._primary_from = 0.0
        self.positions.note(call.user_ids(), number_of_position(position or END))


def gated(call: Call[Row]) -> str:
    """Return the statement of a call that runs only if the check before it succeeded."""
    return f"select f.* from ({call.statement}) f where pg_catalog.current_setting('recdb_read.fresh') = 'true'"


class Replica(Reads):
    """Where Recommender reads."""

    def __init__(self, database: Database, max_lag: timedelta | None, max_connections: int) -> None:
        super().__init__(database, max_lag)
        self._pool = ConnectionPool(
            database.conninfo,
            kwargs=self._options,
            min_size=1,
            max_size=max_connections,
            open=False,
            timeout=WAIT,
            reconnect_timeout=REST,
            max_lifetime=LIFETIME,
        )

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()

    def rows(self, call: Call[Row], primary: Ask) -> list[Row]:
        """Answer a call; `primary` sends one to the primary."""
        if call.writes:
            rows = primary(call)
            # The write is committed: an error from here on must not look as if it were not.
            with suppress(RecdbError):
                self._wrote(call, primary(POSITION)[0].value)
                return rows
            self._wrote(call, END)
            return rows
        if not self._rests():
            try:
                found = self._ask(call, self._needs(call), primary)
                if found is not None:
                    return found
            except psycopg.Error as error:
                self._failed(error)
        if self._primary_rests():
            with suppress(psycopg.Error):
                return self._ask(call, [None, None], primary) or []
        try:
            rows = primary(call)
        except Unavailable as error:
            if self._primary_failed(error):
                with suppress(psycopg.Error):
                    return self._ask(call, [None, None], primary) or []
            raise
        self._count("primary")
        return rows

    def _ask(self, call: Call[Row], needs: list[Any], primary: Ask) -> list[Row] | None:
        """Ask the standby; None if it is not as far as the call needs it."""
        self._pool.open()
        with self._pool.connection() as connection:
            if not self.comparison.knows(connection):
                self._identify(connection, primary)
            with connection.pipeline():
                connection.execute(BEGIN)
                fresh = connection.execute(self._check, needs)
                cursor = connection.cursor(row_factory=class_row(call.record))
                cursor.execute(gated(call), call.parameters)
                connection.execute("commit")
            if fresh.fetchone() != ("true",):
                return None
            rows = cursor.fetchall()
        self._count("standby")
        return rows

    def _identify(self, connection: psycopg.Connection[Any], primary: Ask) -> None:
        """Compare the database of a new connection with the primary's, unless the primary is away."""
        connection.execute(BEGIN)
        try:
            (found,) = connection.execute(self.comparison.statement).fetchone() or (None,)
        except NOTHING_TO_COMPARE:
            return self.comparison.accept(connection)
        finally:
            connection.rollback()
        if found != self.comparison.primary:
            if self._primary_rests() or not self.comparison.may_ask():
                return None
            answers: list[str | None] = []

            def ask() -> None:
                with suppress(RecdbError):
                    answers.append(primary(self._identity_of)[0].value)

            # In a thread, since a pool without a connection would hold the read back for longer.
            thread = threading.Thread(target=ask, daemon=True)
            thread.start()
            thread.join(COMPARE_WAIT)
            if not answers:
                return self.comparison.no_answer()
            self.comparison.primary = answers[0]
        return self.comparison.settle(connection, found)


class AsyncReplica(Reads):
    """Where AsyncRecommender reads."""

    def __init__(self, database: Database, max_lag: timedelta | None, max_connections: int) -> None:
        super().__init__(database, max_lag)
        self._pool = AsyncConnectionPool(
            database.conninfo,
            kwargs=self._options,
            min_size=1,
            max_size=max_connections,
            open=False,
            timeout=WAIT,
            reconnect_timeout=REST,
            max_lifetime=LIFETIME,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.close()

    async def rows(self, call: Call[Row], primary: AsyncAsk) -> list[Row]:
        """Answer a call; `primary` sends one to the primary."""
        if call.writes:
            rows = await primary(call)
            with suppress(RecdbError):
                self._wrote(call, (await primary(POSITION))[0].value)
                return rows
            self._wrote(call, END)
            return rows
        if not self._rests():
            began = time.monotonic()
            try:
                found = await self._ask(call, self._needs(call), primary)
                if found is not None:
                    return found
            except psycopg.Error as error:
                self._failed(error)
            except asyncio.CancelledError:
                self._cancelled(began)
                raise
        if self._primary_rests():
            with suppress(psycopg.Error):
                return await self._ask(call, [None, None], primary) or []
        try:
            rows = await primary(call)
        except Unavailable as error:
            if self._primary_failed(error):
                with suppress(psycopg.Error):
                    return await self._ask(call, [None, None], primary) or []
            raise
        self._count("primary")
        return rows

    async def _ask(self, call: Call[Row], needs: list[Any], primary: AsyncAsk) -> list[Row] | None:
        """Ask the standby; None if it is not as far as the call needs it."""
        await self._pool.open()
        async with self._pool.connection() as connection:
            if not self.comparison.knows(connection):
                await self._identify(connection, primary)
            async with connection.pipeline():
                await connection.execute(BEGIN)
                fresh = await connection.execute(self._check, needs)
                cursor = connection.cursor(row_factory=class_row(call.record))
                await cursor.execute(gated(call), call.parameters)
                await connection.execute("commit")
            if await fresh.fetchone() != ("true",):
                return None
            rows = await cursor.fetchall()
        self._count("standby")
        return rows

    async def _identify(self, connection: psycopg.AsyncConnection[Any], primary: AsyncAsk) -> None:
        """Compare the database of a new connection with the primary's, unless the primary is away."""
        await connection.execute(BEGIN)
        try:
            (found,) = await (await connection.execute(self.comparison.statement)).fetchone() or (None,)
        except NOTHING_TO_COMPARE:
            return self.comparison.accept(connection)
        finally:
            await connection.rollback()
        if found != self.comparison.primary:
            if self._primary_rests() or not self.comparison.may_ask():
                return None
            try:
                async with asyncio.timeout(COMPARE_WAIT):
                    self.comparison.primary = (await primary(self._identity_of))[0].value
            except (RecdbError, TimeoutError):
                return self.comparison.no_answer()
        return self.comparison.settle(connection, found)


class PositionCalls:
    """The methods of both clients for a standby: they carry a user's position to another server, and count reads."""

    _replica: Reads | None

    def position(self, user_id: Id) -> str | None:
        """Return the position of the user's last write through this client; None if there is none, or no `read_url`.

        Give it to the server that answers the user next, in a cookie or a header, and call remember() there.
        """
        user = id_of("user_id", user_id)
        return text_of_position(self._replica.positions.own(user)) if self._replica and user is not None else None

    def remember(self, user_id: Id, position: str | None) -> None:
        """Let the user's next reads see everything up to a position, or wait for nothing if it is None.

        Raises InvalidInput for a text that is no position.
        """
        user, number = id_of("user_id", user_id), 0 if position is None else number_of_position(position)
        if self._replica and user is not None and number:
            self._replica.positions.note([user], number)

    @property
    def refusal(self) -> RecdbError | None:
        """The error of reads while `read_url` names another database than the one that is written to; else None."""
        return self._replica.comparison.refusal if self._replica else None

    def reads(self) -> dict[str, int]:
        """Return how many reads the standby and the primary answered; nothing without `read_url`."""
        return dict(self._replica.counts) if self._replica else {}
