"""The Python clients: one method for each SQL function, in Recommender to wait for and in AsyncRecommender to await.

Both clients send the calls of recdb.calls. A client that you give a URL makes a connection pool of its own and opens
it at the first call, or in `with`. A client that you give a connection or a pool uses it and leaves it open. On a
connection the client neither commits nor rolls back: `track()` is then part of your transaction. An
engine, a connection or a session of SQLAlchemy is used in the same way, by recdb.alchemy.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import psycopg
import sqlalchemy
from psycopg.rows import class_row
from psycopg_pool import AsyncConnectionPool, ConnectionPool, PoolTimeout

from recdb import alchemy, calls
from recdb.arguments import Id
from recdb.calls import Call, Filter, Row
from recdb.client_impressions import AsyncImpressionCalls, ImpressionCalls
from recdb.client_lists import AsyncListCalls, ListCalls
from recdb.client_reasons import AsyncReasonCalls, ReasonCalls
from recdb.database import Database, find_schema
from recdb.records import BatchRecommendation, Recommendation
from recdb.replicas import MAX_LAG, AsyncReplica, PositionCalls, Replica, find_read_database, read_lag
from recdb.schemas import schema_of, with_schema
from recdb.sources import explain_timeout, find_source, text_of_url
from recdb.translate import translate

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_scoped_session
    from sqlalchemy.orm import Session, scoped_session


class Recommender(ListCalls, ReasonCalls, ImpressionCalls, PositionCalls):
    """recdb's SQL functions as methods.

    `source` is a URL in any tool's spelling, a psycopg connection or pool, or an engine, connection or session of
    SQLAlchemy; None finds the database as the command line does. On a connection or a session, every call is part of
    the transaction there. `max_connections` limits the pool that the client makes for a URL or None: up to so many
    calls run at once, in as many threads, and further calls wait up to 10 seconds for a free connection. For a
    connection or a pool of your own it has no effect. Ids may be str, int or UUID; they come back as str.

    `schema` is the schema of the recommender, if the database has several; None takes RECDB_SCHEMA, or else recdb.

    `read_url` names a standby to read from; None takes RECDB_READ_URL if `source` is None. A user who has just written,
    through this client or with a position that remember() got, is read where the write is to be seen. A standby that
    is more than `max_lag` seconds behind, or away, is not read from while the primary answers.

    Every method raises InvalidInput, ModelNotFound, NotInstalled or RecdbError.
    """

    def __init__(
        self,
        source: "str | sqlalchemy.URL | psycopg.Connection[Any] | ConnectionPool[Any] | sqlalchemy.Engine | "
        "sqlalchemy.Connection | Session | scoped_session[Any] | None" = None,
        *,
        max_connections: int = 4,
        schema: str | None = None,
        read_url: str | sqlalchemy.URL | None = None,
        max_lag: float = MAX_LAG,
    ) -> None:
        source = text_of_url(source)
        self._schema = find_schema(schema or schema_of(source))
        self._alchemy = source if alchemy.is_waiting(source) else None
        if self._alchemy is not None:
            alchemy.require_postgresql(source)
        elif source is not None and not isinstance(source, str | psycopg.Connection | ConnectionPool):
            raise alchemy.refuse(source, "Recommender")
        self._connection = source if isinstance(source, psycopg.Connection) else None
        self._own_pool = not isinstance(source, psycopg.Connection | ConnectionPool)
        self._pool: ConnectionPool[Any] | None = source if isinstance(source, ConnectionPool) else None
        self._database: Database | None = None
        standby = find_read_database(read_url, source, self._schema)
        lag = read_lag(max_lag)
        self._replica: Replica | None = Replica(standby, lag, max_connections) if standby else None
        if source is None or isinstance(source, str):
            self._database, options = find_source(source, self._schema)
            self._pool = ConnectionPool(
                self._database.conninfo,
                kwargs=options,
                min_size=1,
                max_size=max_connections,
                open=False,
                timeout=10,
                check=ConnectionPool.check_connection,
            )

    def __enter__(self) -> Self:
        if self._pool is not None and self._own_pool:
            self._pool.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the pool that the client made; a connection or pool of your own stays open."""
        if self._pool is not None and self._own_pool:
            self._pool.close()
        if self._replica:
            self._replica.close()

    def recommend(
        self,
        user_id: Id,
        k: int = 50,
        exclude: Iterable[Id] | None = (),
        fallback: str = "none",
        filter: Filter | None = None,
        model: str | None = None,
        among: Iterable[Id] | None = None,
        scenario: str | None = None,
        segment: Mapping[str, Any] | None = None,
    ) -> list[Recommendation]:
        """Return the best `k` (1..1000) items for a user, best first; see the SQL function recommend()."""
        return self._rows(calls.recommend(user_id, k, exclude, fallback, filter, model, among, scenario, segment))

    def recommend_for_items(
        self,
        items: Iterable[Id],
        k: int = 50,
        exclude: Iterable[Id] | None = (),
        weights: Iterable[float] | None = None,
        fallback: str = "none",
        filter: Filter | None = None,
        model: str | None = None,
        among: Iterable[Id] | None = None,
        scenario: str | None = None,
        segment: Mapping[str, Any] | None = None,
    ) -> list[Recommendation]:
        """Return the best `k` items for a guest who looked at `items` (newest first); each weight is 1 unless given."""
        call = calls.recommend_for_items(items, k, exclude, weights, fallback, filter, model, among, scenario, segment)
        return self._rows(call)

    def recommend_batch(
        self,
        user_ids: Iterable[Id],
        k: int = 50,
        fallback: str = "none",
        filter: Filter | None = None,
        model: str | None = None,
        among: Iterable[Id] | None = None,
        scenario: str | None = None,
        segment: Mapping[str, Any] | None = None,
    ) -> list[BatchRecommendation]:
        """Return the lists of many users, in the order given."""
        return self._rows(calls.recommend_batch(user_ids, k, fallback, filter, model, among, scenario, segment))

    def track(
        self,
        user_id: Id,
        item_id: Id,
        kind: str,
        created_at: datetime | None = None,
        metadata: Mapping[str, Any] | None = None,
        value: float | None = None,
    ) -> int:
        """Record an interaction (now unless `created_at` is given) and return its id.

        The weight of the kind is multiplied by `value`, such as a quantity; a negative one is a dislike.
        """
        return self._rows(calls.track(user_id, item_id, kind, created_at, metadata, value))[0].value

    def merge_users(self, from_id: Id, to_id: Id) -> int:
        """Give a guest's interactions to the member that the guest became; return how many were moved."""
        return self._rows(calls.merge_users(from_id, to_id))[0].value

    def forget_user(self, user_id: Id) -> int:
        """Erase a user; return how many rows were deleted."""
        return self._rows(calls.forget_user(user_id))[0].value

    def refresh(self) -> None:
        """Run `CALL recdb.refresh()`."""
        if self._alchemy is not None:
            alchemy.refresh(self._alchemy, self._schema)
            return
        with self._connected() as connection:
            if self._connection is None:
                connection.autocommit = True
            try:
                connection.execute(with_schema("call recdb.refresh()", self._schema))
            finally:
                if self._connection is None:
                    connection.autocommit = False

    def _rows(self, call: Call[Row]) -> list[Row]:
        call = call.in_schema(self._schema)
        return self._replica.rows(call, self._send) if self._replica else self._send(call)

    def _send(self, call: Call[Row]) -> list[Row]:
        if self._alchemy is not None:
            return alchemy.rows(self._alchemy, call, self._schema)
        with self._connected() as connection, connection.cursor(row_factory=class_row(call.record)) as cursor:
            return cursor.execute(call.statement, call.parameters).fetchall()

    @contextmanager
    def _connected(self) -> Iterator[psycopg.Connection[Any]]:
        try:
            if self._connection is not None:
                yield self._connection
                return
            assert self._pool is not None
            if self._own_pool:
                self._pool.open()
            with self._pool.connection() as connection:
                yield connection
        except PoolTimeout as error:
            raise explain_timeout(self._database) from error
        except psycopg.Error as error:
            raise translate(error, self._schema) from error


class AsyncRecommender(AsyncListCalls, AsyncReasonCalls, AsyncImpressionCalls, PositionCalls):
    """Recommender for asyncio: the same arguments and the same methods, awaited.

    `max_connections` limits the client's own pool, so also how many calls of concurrent tasks run at once.
    """

    def __init__(
        self,
        source: "str | sqlalchemy.URL | psycopg.AsyncConnection[Any] | AsyncConnectionPool[Any] | AsyncEngine | "
        "AsyncConnection | AsyncSession | async_scoped_session[Any] | None" = None,
        *,
        max_connections: int = 4,
        schema: str | None = None,
        read_url: str | sqlalchemy.URL | None = None,
        max_lag: float = MAX_LAG,
    ) -> None:
        source = text_of_url(source)
        self._schema = find_schema(schema or schema_of(source))
        self._alchemy = source if alchemy.is_async(source) else None
        if self._alchemy is not None:
            alchemy.require_postgresql(source)
        elif source is not None and not isinstance(source, str | psycopg.AsyncConnection | AsyncConnectionPool):
            raise alchemy.refuse(source, "AsyncRecommender")
        self._connection = source if isinstance(source, psycopg.AsyncConnection) else None
        self._own_pool = not isinstance(source, psycopg.AsyncConnection | AsyncConnectionPool)
        self._pool: AsyncConnectionPool[Any] | None = source if isinstance(source, AsyncConnectionPool) else None
        self._database: Database | None = None
        standby = find_read_database(read_url, source, self._schema)
        lag = read_lag(max_lag)
        self._replica: AsyncReplica | None = AsyncReplica(standby, lag, max_connections) if standby else None
        if source is None or isinstance(source, str):
            self._database, options = find_source(source, self._schema)
            self._pool = AsyncConnectionPool(
                self._database.conninfo,
                kwargs=options,
                min_size=1,
                max_size=max_connections,
                open=False,
                timeout=10,
                check=AsyncConnectionPool.check_connection,
            )

    async def __aenter__(self) -> Self:
        if self._pool is not None and self._own_pool:
            await self._pool.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the pool that the client made; a connection or pool of your own stays open."""
        if self._pool is not None and self._own_pool:
            await self._pool.close()
        if self._replica:
            await self._replica.close()

    async def recommend(
        self,
        user_id: Id,
        k: int = 50,
        exclude: Iterable[Id] | None = (),
        fallback: str = "none",
        filter: Filter | None = None,
        model: str | None = None,
        among: Iterable[Id] | None = None,
        scenario: str | None = None,
        segment: Mapping[str, Any] | None = None,
    ) -> list[Recommendation]:
        """Return the best `k` (1..1000) items for a user, best first; see the SQL function recommend()."""
        return await self._rows(calls.recommend(user_id, k, exclude, fallback, filter, model, among, scenario, segment))

    async def recommend_for_items(
        self,
        items: Iterable[Id],
        k: int = 50,
        exclude: Iterable[Id] | None = (),
        weights: Iterable[float] | None = None,
        fallback: str = "none",
        filter: Filter | None = None,
        model: str | None = None,
        among: Iterable[Id] | None = None,
        scenario: str | None = None,
        segment: Mapping[str, Any] | None = None,
    ) -> list[Recommendation]:
        """Return the best `k` items for a guest who looked at `items` (newest first); each weight is 1 unless given."""
        call = calls.recommend_for_items(items, k, exclude, weights, fallback, filter, model, among, scenario, segment)
        return await self._rows(call)

    async def recommend_batch(
        self,
        user_ids: Iterable[Id],
        k: int = 50,
        fallback: str = "none",
        filter: Filter | None = None,
        model: str | None = None,
        among: Iterable[Id] | None = None,
        scenario: str | None = None,
        segment: Mapping[str, Any] | None = None,
    ) -> list[BatchRecommendation]:
        """Return the lists of many users, in the order given."""
        return await self._rows(calls.recommend_batch(user_ids, k, fallback, filter, model, among, scenario, segment))

    async def track(
        self,
        user_id: Id,
        item_id: Id,
        kind: str,
        created_at: datetime | None = None,
        metadata: Mapping[str, Any] | None = None,
        value: float | None = None,
    ) -> int:
        """Record an interaction (now unless `created_at` is given) and return its id.

        The weight of the kind is multiplied by `value`, such as a quantity; a negative one is a dislike.
        """
        return (await self._rows(calls.track(user_id, item_id, kind, created_at, metadata, value)))[0].value

    async def merge_users(self, from_id: Id, to_id: Id) -> int:
        """Give a guest's interactions to the member that the guest became; return how many were moved."""
        return (await self._rows(calls.merge_users(from_id, to_id)))[0].value

    async def forget_user(self, user_id: Id) -> int:
        """Erase a user; return how many rows were deleted."""
        return (await self._rows(calls.forget_user(user_id)))[0].value

    async def refresh(self) -> None:
        """Run `CALL recdb.refresh()`."""
        if self._alchemy is not None:
            await alchemy.refresh_async(self._alchemy, self._schema)
            return
        async with self._connected() as connection:
            if self._connection is None:
                await connection.set_autocommit(True)
            try:
                await connection.execute(with_schema("call recdb.refresh()", self._schema))
            finally:
                if self._connection is None:
                    await connection.set_autocommit(False)

    async def _rows(self, call: Call[Row]) -> list[Row]:
        call = call.in_schema(self._schema)
        return await (self._replica.rows(call, self._send) if self._replica else self._send(call))

    async def _send(self, call: Call[Row]) -> list[Row]:
        if self._alchemy is not None:
            return await alchemy.rows_async(self._alchemy, call, self._schema)
        async with (
            self._connected() as connection,
            connection.cursor(row_factory=class_row(call.record)) as cursor,
        ):
            await cursor.execute(call.statement, call.parameters)
            return await cursor.fetchall()

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        try:
            if self._connection is not None:
                yield self._connection
                return
            assert self._pool is not None
            if self._own_pool:
                await self._pool.open()
            async with self._pool.connection() as connection:
                yield connection
        except PoolTimeout as error:
            raise await asyncio.to_thread(explain_timeout, self._database) from error
        except psycopg.Error as error:
            raise translate(error, self._schema) from error
