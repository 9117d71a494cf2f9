"""The trace of a run: a row of recdb.refresh_log from its start on, which says how it ended."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

import psycopg
from psycopg.pq import TransactionStatus

from recdb.data.readable import name_failure
from recdb.database import Database, connect, fetch_row
from recdb.errors import RecdbError, Rejected

Kind = Literal["rebuild", "train", "tune", "activate"]


@contextmanager
def traced(connection: psycopg.Connection, database: Database, kind: Kind) -> Iterator[int]:
    """Write the start of a run into recdb.refresh_log, and how it ended; yield its run_id.

    The connection is in autocommit. Nothing writes the end of a run whose process is killed: the next run does.
    """
    (run_id,) = fetch_row(connection, "select recdb.begin_run(%s)", [kind])
    try:
        yield run_id
    except BaseException as error:
        # The connection may be lost, or in the middle of a statement.
        usable = not connection.closed and connection.info.transaction_status == TransactionStatus.IDLE
        named = name_failure(connection, error) if usable else None
        if named:
            write_end(connection, run_id, "failed", str(named))
            raise named from error
        with suppress(psycopg.Error, RecdbError):
            if usable:
                write_end(connection, run_id, ending_of(error), message_of(error))
            else:
                with connect(database, autocommit=True) as other:
                    write_end(other, run_id, ending_of(error), message_of(error))
        raise
    connection.execute(
        "update recdb.refresh_log set state = 'succeeded', finished_at = clock_timestamp(), error = null "
        "where run_id = %s and state in ('running', 'lost')",
        [run_id],
    )


def write_end(connection: psycopg.Connection, run_id: int, state: str, message: str) -> None:
    """Write the end of a run that did not succeed, even if a part of its work was committed as a success."""
    connection.execute(
        "update recdb.refresh_log set state = %s, error = %s, finished_at = clock_timestamp() where run_id = %s",
        [state, message, run_id],
    )


def ending_of(error: BaseException) -> str:
    """Return the state of a run that ended with an error."""
    if isinstance(error, Rejected):
        return "rejected"
    return "cancelled" if isinstance(error, KeyboardInterrupt | psycopg.errors.QueryCanceled) else "failed"


def message_of(error: BaseException) -> str:
    """Return an error's message for the log."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    primary = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    return primary or str(error).strip() or type(error).__name__
