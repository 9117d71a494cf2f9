"""Sends the calls of a client through SQLAlchemy: over an engine, or in the transaction of a connection or a session.

Everything goes through SQLAlchemy itself, not past it to the driver. So SQLAlchemy knows of the transaction, and any
driver of its `postgresql` dialect works. On an engine, each call is a transaction of its own. On a connection or a
session, a call is part of the transaction there, and the client neither commits nor rolls back.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy

from recdb.calls import Call, Row
from recdb.errors import InvalidInput, RecdbError, Unavailable
from recdb.schemas import with_schema
from recdb.translate import one_line, translate

REFRESH = "call recdb.refresh()"


def _loaded(module: str, *names: str) -> tuple[Any, ...]:
    """Return classes of a module that is loaded already: nobody has an object of another one."""
    found = sys.modules.get(module)
    return tuple(getattr(found, name) for name in names) if found else ()


def is_waiting(source: object) -> bool:
    """Tell whether a source is an engine, a connection or a session of SQLAlchemy."""
    sessions = _loaded("sqlalchemy.orm", "Session", "scoped_session")
    return isinstance(source, (sqlalchemy.Engine, sqlalchemy.Connection, *sessions))


def is_async(source: object) -> bool:
    """Tell whether a source is one of those of SQLAlchemy's asyncio extension."""
    names = ("AsyncEngine", "AsyncConnection", "AsyncSession", "async_scoped_session")
    return isinstance(source, _loaded("sqlalchemy.ext.asyncio", *names))


def require_postgresql(source: Any) -> None:
    """Raise InvalidInput if a source is not of PostgreSQL, or a session that is not bound to anything."""
    try:
        bound = source.get_bind() if hasattr(source, "get_bind") else source
    except sqlalchemy.exc.UnboundExecutionError as error:
        raise InvalidInput("this session is not bound to an engine", "make it with Session(engine)") from error
    if bound.dialect.name != "postgresql":
        raise InvalidInput(f"this is a database of {bound.dialect.name}, and recdb lives in PostgreSQL")


def refuse(source: object, client: str) -> InvalidInput:
    """Return the error for a source that a client cannot use."""
    kind = type(source).__name__
    if is_async(source) or kind in ("AsyncConnection", "AsyncConnectionPool"):
        return InvalidInput(f"{client} does not take an object that is awaited: {kind}", "use AsyncRecommender")
    if is_waiting(source) or kind in ("Connection", "ConnectionPool"):
        return InvalidInput(f"{client} takes only what is awaited, and {kind} is not", "use Recommender")
    return InvalidInput(
        f"{client} takes a URL, a connection or pool of psycopg, or an engine, connection or session of SQLAlchemy, "
        f"and not a {kind}",
        "a sessionmaker makes a session: pass that" if kind.endswith("sessionmaker") else None,
    )


def rows(source: Any, call: Call[Row], schema: str) -> list[Row]:
    """Send a call over a source that waits, and return its records."""
    with _errors(schema):
        if isinstance(source, sqlalchemy.Engine):
            with source.begin() as connection:
                return _records(call, connection.execute(*_bound(call)))
        _flush(source)
        return _records(call, source.execute(*_bound(call)))


def refresh(source: Any, schema: str) -> None:
    """Run `CALL recdb.refresh()`; on an engine it commits itself."""
    with _errors(schema):
        if isinstance(source, sqlalchemy.Engine):
            with source.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.execute(sqlalchemy.text(with_schema(REFRESH, schema)))
        else:
            _flush(source)
            source.execute(sqlalchemy.text(with_schema(REFRESH, schema)))


async def rows_async(source: Any, call: Call[Row], schema: str) -> list[Row]:
    """Send a call over a source that is awaited, and return its records."""
    with _errors(schema):
        if isinstance(source, _loaded("sqlalchemy.ext.asyncio", "AsyncEngine")):
            async with source.begin() as connection:
                return _records(call, await connection.execute(*_bound(call)))
        await _flush_async(source)
        return _records(call, await source.execute(*_bound(call)))


async def refresh_async(source: Any, schema: str) -> None:
    """Await `CALL recdb.refresh()`; on an engine it commits itself."""
    with _errors(schema):
        if isinstance(source, _loaded("sqlalchemy.ext.asyncio", "AsyncEngine")):
            async with source.connect() as connection:
                await connection.execution_options(isolation_level="AUTOCOMMIT")
                await connection.execute(sqlalchemy.text(with_schema(REFRESH, schema)))
        else:
            await _flush_async(source)
            await source.execute(sqlalchemy.text(with_schema(REFRESH, schema)))


def _bound(call: Call[Row]) -> tuple[sqlalchemy.TextClause, dict[str, Any]]:
    """Return a call as SQLAlchemy's text with named parameters."""
    parts = call.statement.split("%s")
    named = "".join(f"{part}(:p{place})" for place, part in enumerate(parts[:-1])) + parts[-1]
    return sqlalchemy.text(named), {f"p{place}": value for place, value in enumerate(call.parameters)}


def _records(call: Call[Row], result: Any) -> list[Row]:
    return [call.record(**row) for row in result.mappings()]


def _flush(source: Any) -> None:
    """Write the changes that a session has not written yet, as it does before a query of its own."""
    if getattr(source, "autoflush", False):
        source.flush()


async def _flush_async(source: Any) -> None:
    if getattr(source, "autoflush", False):
        await source.flush()


@contextmanager
def _errors(schema: str) -> Iterator[None]:
    """Raise recdb's own errors instead of SQLAlchemy's."""
    try:
        yield
    except sqlalchemy.exc.DBAPIError as error:
        raise translate(error, schema) from error.orig
    except sqlalchemy.exc.TimeoutError as error:
        raise Unavailable("all connections of the engine's pool are busy", "allow more: pool_size") from error
    except sqlalchemy.exc.SQLAlchemyError as error:
        raise RecdbError(one_line(str(error))) from error
