"""Opening a job: run() and tune() share the lock, the connection and the clean-up at the start."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg

from recdb.database import Database, connect, fetch_row, require_primary
from recdb.errors import RecdbError
from recdb.faults import reach
from recdb.job.rebuild import restore_half_life
from recdb.job.versions import clean_up
from recdb.migrate import require_installed
from recdb.preconditions import check_owner
from recdb.progress import Report
from recdb.schemas import DEFAULT_SCHEMA, lock_key, schema_of

# The key of an advisory lock: "recjob" in ASCII; recdb.is_running() knows it. The session that does all of the job's
# work holds the lock: whatever ends that session ends the work too, so no two jobs ever work at once.
JOB_LOCK = 0x7265636A6F62


@contextmanager
def open_job(database: Database, report: Report) -> Iterator[psycopg.Connection | None]:
    """Take the job's lock, remove the remains of earlier runs, and yield the connection that holds it, in autocommit.

    Yields None if another job is running.
    """
    with job_lock(database) as connection:
        if connection is not None:
            require_primary(connection)
            require_installed(connection)
            check_owner(connection)
            watch_for_lost_client(connection)
            reach("job locked")
            connection.execute("select recdb.mark_lost_runs()")
            restore_half_life(connection, report)
            clean_up(connection, report)
        yield connection


@contextmanager
def job_lock(database: Database) -> Iterator[psycopg.Connection | None]:
    """Open a connection in autocommit that holds the job's lock while the block runs.

    Yields None if another job holds the lock.
    """
    with connect(database, autocommit=True) as connection:
        (locked,) = fetch_row(connection, "select pg_try_advisory_lock(%s)", [lock_key(JOB_LOCK, database.schema)])
        try:
            yield connection if locked else None
        finally:
            # Closing the connection releases the lock too, but only after a moment.
            with suppress(psycopg.Error):
                connection.execute("select pg_advisory_unlock_all()")


def require_lock(connection: psycopg.Connection) -> None:
    """Raise RecdbError unless this session holds the job's lock; a pooler may have changed the session behind us."""
    (held,) = fetch_row(
        connection,
        "select exists (select from pg_locks l where l.locktype = 'advisory' and l.pid = pg_backend_pid() "
        "and l.granted and l.objsubid = 1 and (l.classid::bigint << 32) + l.objid::bigint = %s)",
        [lock_key(JOB_LOCK, schema_of(connection) or DEFAULT_SCHEMA)],
    )
    if not held:
        raise RecdbError(
            "the job no longer holds its lock, so it stopped: a pooler gave it another session",
            "connect the job to PostgreSQL directly",
        )


def watch_for_lost_client(connection: psycopg.Connection) -> None:
    """Let the server cancel our statements soon after this process died."""
    connection.execute("set client_connection_check_interval = '1s'")
