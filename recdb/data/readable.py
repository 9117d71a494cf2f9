"""Rows of attached tables that cannot be read: the SQL function failing_sources() finds the column and the ids.

A cast in a view, or in --value, works for each row of today and fails for one of tomorrow. PostgreSQL's error names
neither the table nor the row.
"""

import psycopg
from psycopg.pq import TransactionStatus

from recdb.data.remarks import Remark
from recdb.data.samples import LONGEST, limited
from recdb.database import fetch_row
from recdb.errors import InvalidInput, RecdbError
from recdb.schemas import schema_of

SECONDS = 4.0
"""How long to read: less than LONGEST, which cancels a read that is too slow to count its rows."""


def require_readable_rows(connection: psycopg.Connection, number: int, relation: str) -> list[Remark]:
    """Read the rows of a view attached_N, as recdb will, if one may fail; raise InvalidInput for one that does.

    Returns a remark if there was no time for all rows.
    """
    query = f"select * from {schema_of(connection)}.attached_{number}"
    connection.execute("update recdb.attachment set query = %s where attachment_id = %s", [query, number])
    with limited(connection):
        try:
            with connection.transaction():
                row = connection.execute(
                    "select rows, complete, problem, hint from recdb.failing_sources(%s, %s)", [SECONDS, number]
                ).fetchone()
        except psycopg.errors.QueryCanceled:
            return [Remark(f"the rows of {relation} were not checked: reading them took more than {LONGEST}")]
    rows, complete, problem, hint = row or (0, True, None, "")
    if problem:
        raise InvalidInput(problem, hint.partition(" Or go on")[0])
    if complete:
        return []
    return [Remark(f"only the first {rows:,} rows of {relation} were read in {SECONDS:g} s: recdb doctor reads more")]


def name_failure(connection: psycopg.Connection, error: BaseException) -> RecdbError | None:
    """Say which attached table an error of the database came from; None if it came from none of them."""
    if not isinstance(error, psycopg.Error) or error.sqlstate is None or connection.closed:
        return None
    if connection.info.transaction_status not in (TransactionStatus.IDLE, TransactionStatus.INTRANS):
        return None
    try:
        problem, hint = fetch_row(connection, "select problem, hint from recdb.name_failure(%s)", [error.sqlstate])
    except psycopg.Error:
        return None
    return RecdbError(problem, hint) if problem else None
