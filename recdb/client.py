"""The Python clients: one method for each SQL function, in Recommender to wait for and in AsyncRecommender to await.

Both clients send the calls of recdb.calls. A client that you give a URL makes a connection pool of its own and opens
it at the first call, or in `with`. A client that you give a connection or a pool uses it and leaves it open. On a
connection the client neither commits nor rolls back: `track()` is then part of your transaction.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg.rows import class_row
from psycopg_pool import AsyncConnectionPool, ConnectionPool, PoolTimeout

from recdb import calls
from recdb.calls import Call, Row
from recdb.database import APPLICATION_NAME, Database, connect, find_database, find_schema, prepares_statements
from recdb.errors import InvalidInput, ModelNotFound, NotInstalled, NotPermitted, RecdbError, Unavailable
from recdb.records import (
    BatchRecommendation,
    Neighbor,
    NeighborReason,
    PopularItem,
    Reason,
    Recommendation,
    SimilarItem,
)
from recdb.schemas import schema_of, with_schema

ERRORS: Mapping[str, type[RecdbError]] = {  # by SQLSTATE
    "22023": InvalidInput,  # invalid_parameter_value
    "22P02": InvalidInput,  # invalid_text_representation
    "22021": InvalidInput,  # character_not_in_repertoire
    "42704": ModelNotFound,  # undefined_object
    "3F000": NotInstalled,  # invalid_schema_name
    "42883": NotInstalled,  # undefined_function
    "42P01": NotInstalled,  # undefined_table
    "42501": NotPermitted,  # insufficient_privilege
    "25006": Unavailable,  # read_only_sql_transaction: after a failover, the wrong server
}
FAMILIES: Mapping[type[psycopg.Error], type[RecdbError]] = {  # for all other SQLSTATEs
    psycopg.DataError: InvalidInput,
    psycopg.OperationalError: Unavailable,
    psycopg.InterfaceError: Unavailable,
}


def translate(error: psycopg.Error) -> RecdbError:
    """Turn a database error into one of recdb's own, with the message and the hint of the database."""
    family = next((FAMILIES[family] for family in FAMILIES if isinstance(error, family)), RecdbError)
    kind = ERRORS.get(error.sqlstate or "", family)
    message = error.diag.message_primary or str(error).strip() or type(error).__name__
    return kind(message, error.diag.message_hint)


def explain_timeout(database: Database | None) -> RecdbError:
    """Say why the pool gave no connection. Connecting outside the pool gives the reason, if the server is down."""
    try:
        if database is not None:
            connect(database).close()
    except RecdbError as reason:
        return reason
    return Unavailable("all connections of the pool are busy", "allow more, or keep them for a shorter time")


def _find_database(source: str | None, schema: str | None) -> tuple[Database, dict[str, Any]]:
    """Find the database that a client connects to; return it with the options of each connection."""
    database = find_database(source, schema=schema)
    options: dict[str, Any] = {"application_name": APPLICATION_NAME}
    if source and not prepares_statements(source):
        options["prepare_threshold"] = None
    return database, options


class Recommender:
    """recdb's SQL functions as methods.

    `source` is a URL in any tool's spelling, a psycopg connection or a psycopg pool; None finds the database as
    the command line does. `max_connections` limits the pool that the client makes for a URL or None: up to so many
    calls run at once, in as many threads, and further calls wait up to 10 seconds for a free connection. For a
    connection or a pool of your own it has no effect.

    `schema` is the schema of the recommender, if the database has several; None takes RECDB_SCHEMA, or else recdb.

    Every method raises InvalidInput, ModelNotFound, NotInstalled or RecdbError.
    """

    def __init__(
        self,
        source: str | psycopg.Connection[Any] | ConnectionPool[Any] | None = None,
        *,
        max_connections: int = 4,
        schema: str | None = None,
    ) -> None:
        self._schema = find_schema(schema or schema_of(source))
        self._connection = source if isinstance(source, psycopg.Connection) else None
        self._own_pool = not isinstance(source, psycopg.Connection | ConnectionPool)
        self._pool: ConnectionPool[Any] | None = source if isinstance(source, ConnectionPool) else None
        self._database: Database | None = None
        if source is None or isinstance(source, str):
            self._database, options = _find_database(source, self._schema)
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

    def recommend(
        self,
        user_id: str,
        k: int = 50,
        exclude: Sequence[str] = (),
        fallback: str = "none",
        filter: Mapping[str, Any] | None = None,
        model: str | None = None,
    ) -> list[Recommendation]:
        """Return the best `k` (1..1000) items for a user, best first; see the SQL function recommend()."""
        return self._rows(calls.recommend(user_id, k, exclude, fallback, filter, model))

    def recommend_for_items(
        self,
        items: Sequence[str],
        k: int = 50,
        exclude: Sequence[str] = (),
        weights: Sequence[float] | None = None,
        fallback: str = "none",
        filter: Mapping[str, Any] | None = None,
        model: str | None = None,
    ) -> list[Recommendation]:
        """Return the best `k` items for a guest who looked at `items` (newest first); each weight is 1 unless given."""
        return self._rows(calls.recommend_for_items(items, k, exclude, weights, fallback, filter, model))

    def recommend_batch(self, user_ids: Sequence[str], k: int = 50) -> list[BatchRecommendation]:
        """Return the lists of many users, in the order given."""
        return self._rows(calls.recommend_batch(user_ids, k))

    def neighbors(self, user_id: str, k: int = 20) -> list[Neighbor]:
        """Return the `k` users most like a user, nearest first."""
        return self._rows(calls.neighbors(user_id, k))

    def similar_items(self, item_id: str, k: int = 20) -> list[SimilarItem]:
        """Return the `k` items most like an item, nearest first."""
        return self._rows(calls.similar_items(item_id, k))

    def explain(self, user_id: str, item_id: str, model: str | None = None) -> list[Reason]:
        """Return why a user gets an item: contributions that add up to its score, the largest first."""
        return self._rows(calls.explain(user_id, item_id, model))

    def explain_neighbors(self, user_id: str, item_id: str, model: str | None = None) -> list[NeighborReason]:
        """Return the contribution of each neighbour to the score of a recommended item, the largest first."""
        return self._rows(calls.explain_neighbors(user_id, item_id, model))

    def popular(self, k: int = 50) -> list[PopularItem]:
        """Return the `k` most popular items."""
        return self._rows(calls.popular(k))

    def track(
        self,
        user_id: str,
        item_id: str,
        kind: str,
        created_at: datetime | None = None,
        metadata: Mapping[str, Any] | None = None,
        value: float | None = None,
    ) -> int:
        """Record an interaction (now unless `created_at` is given) and return its id.

        The weight of the kind is multiplied by `value`, such as a quantity; a negative one is a dislike.
        """
        return self._rows(calls.track(user_id, item_id, kind, created_at, metadata, value))[0].value

    def merge_users(self, from_id: str, to_id: str) -> int:
        """Give a guest's interactions to the member that the guest became; return how many were moved."""
        return self._rows(calls.merge_users(from_id, to_id))[0].value

    def forget_user(self, user_id: str) -> int:
        """Erase a user; return how many rows were deleted."""
        return self._rows(calls.forget_user(user_id))[0].value

    def refresh(self) -> None:
        """Run `CALL recdb.refresh()`."""
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
            raise translate(error) from error


class AsyncRecommender:
    """Recommender for asyncio: the same arguments and the same methods, awaited.

    `max_connections` limits the client's own pool, so also how many calls of concurrent tasks run at once.
    """

    def __init__(
        self,
        source: str | psycopg.AsyncConnection[Any] | AsyncConnectionPool[Any] | None = None,
        *,
        max_connections: int = 4,
        schema: str | None = None,
    ) -> None:
        self._schema = find_schema(schema or schema_of(source))
        self._connection = source if isinstance(source, psycopg.AsyncConnection) else None
        self._own_pool = not isinstance(source, psycopg.AsyncConnection | AsyncConnectionPool)
        self._pool: AsyncConnectionPool[Any] | None = source if isinstance(source, AsyncConnectionPool) else None
        self._database: Database | None = None
        if source is None or isinstance(source, str):
            self._database, options = _find_database(source, self._schema)
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

    async def recommend(
        self,
        user_id: str,
        k: int = 50,
        exclude: Sequence[str] = (),
        fallback: str = "none",
        filter: Mapping[str, Any] | None = None,
        model: str | None = None,
    ) -> list[Recommendation]:
        """Return the best `k` (1..1000) items for a user, best first; see the SQL function recommend()."""
        return await self._rows(calls.recommend(user_id, k, exclude, fallback, filter, model))

    async def recommend_for_items(
        self,
        items: Sequence[str],
        k: int = 50,
        exclude: Sequence[str] = (),
        weights: Sequence[float] | None = None,
        fallback: str = "none",
        filter: Mapping[str, Any] | None = None,
        model: str | None = None,
    ) -> list[Recommendation]:
        """Return the best `k` items for a guest who looked at `items` (newest first); each weight is 1 unless given."""
        return await self._rows(calls.recommend_for_items(items, k, exclude, weights, fallback, filter, model))

    async def recommend_batch(self, user_ids: Sequence[str], k: int = 50) -> list[BatchRecommendation]:
        """Return the lists of many users, in the order given."""
        return await self._rows(calls.recommend_batch(user_ids, k))

    async def neighbors(self, user_id: str, k: int = 20) -> list[Neighbor]:
        """Return the `k` users most like a user, nearest first."""
        return await self._rows(calls.neighbors(user_id, k))

    async def similar_items(self, item_id: str, k: int = 20) -> list[SimilarItem]:
        """Return the `k` items most like an item, nearest first."""
        return await self._rows(calls.similar_items(item_id, k))

    async def explain(self, user_id: str, item_id: str, model: str | None = None) -> list[Reason]:
        """Return why a user gets an item: contributions that add up to its score, the largest first."""
        return await self._rows(calls.explain(user_id, item_id, model))

    async def explain_neighbors(self, user_id: str, item_id: str, model: str | None = None) -> list[NeighborReason]:
        """Return the contribution of each neighbour to the score of a recommended item, the largest first."""
        return await self._rows(calls.explain_neighbors(user_id, item_id, model))

    async def popular(self, k: int = 50) -> list[PopularItem]:
        """Return the `k` most popular items."""
        return await self._rows(calls.popular(k))

    async def track(
        self,
        user_id: str,
        item_id: str,
        kind: str,
        created_at: datetime | None = None,
        metadata: Mapping[str, Any] | None = None,
        value: float | None = None,
    ) -> int:
        """Record an interaction (now unless `created_at` is given) and return its id.

        The weight of the kind is multiplied by `value`, such as a quantity; a negative one is a dislike.
        """
        return (await self._rows(calls.track(user_id, item_id, kind, created_at, metadata, value)))[0].value

    async def merge_users(self, from_id: str, to_id: str) -> int:
        """Give a guest's interactions to the member that the guest became; return how many were moved."""
        return (await self._rows(calls.merge_users(from_id, to_id)))[0].value

    async def forget_user(self, user_id: str) -> int:
        """Erase a user; return how many rows were deleted."""
        return (await self._rows(calls.forget_user(user_id)))[0].value

    async def refresh(self) -> None:
        """Run `CALL recdb.refresh()`."""
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
            raise translate(error) from error
