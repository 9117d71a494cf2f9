"""Opening a job: run() and tune() share the lock, the connection and the clean-up at the start."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg

from recdb.citus import lift_result_limit
from recdb.database import Database, connect, fetch_row, require_primary
from recdb.errors import RecdbError
from recdb.faults import reach
from recdb.job.rebuild import restore_half_life
from recdb.job.versions import clean_up
from recdb.migrate import find_blocker, require_installed
from recdb.preconditions import check_owner
from recdb.progress import Report

# A statement of the job waits this long for a lock of another transaction. Then the job ends with an error.
LOCK_WAIT = "5min"


@contextmanager
def open_job(database: Database, report: Report) -> Iterator[psycopg.Connection | None]:
    """Take the job's lock, remove the remains of earlier runs, and yield the connection that holds it, in autocommit.

    Yields None if another job is running.
    """
    with job_lock(database) as connection:
        if connection is None:
            yield None
            return
        check_owner(connection)
        watch_for_lost_client(connection)
        be_patient(connection)
        reach("job locked")
        with naming_the_blocker(database):
            connection.execute("select recdb.mark_lost_runs()")
            restore_half_life(connection, report)
            clean_up(connection, report)
            yield connection


@contextmanager
def job_lock(database: Database) -> Iterator[psycopg.Connection | None]:
    """Open a connection in autocommit that holds the job's lock while the block runs.

    The session that does all of the job's work holds the lock: whatever ends that session ends the work too, so no two
    jobs ever work at once. Yields None if another job holds the lock.
    """
    with connect(database, autocommit=True) as connection:
        require_primary(connection)
        require_installed(connection)
        lift_result_limit(connection)
        (locked,) = fetch_row(connection, "select recdb.take_lock('job')")
        try:
            yield connection if locked else None
        finally:
            # Closing the connection releases the lock too, but only after a moment.
            with suppress(psycopg.Error):
                connection.execute("select pg_advisory_unlock_all()")


def require_lock(connection: psycopg.Connection) -> None:
    """Raise RecdbError unless this session holds the job's lock; a pooler may have changed the session behind us."""
    (held,) = fetch_row(connection, "select exists (select from recdb.job_holders() h where h.pid = pg_backend_pid())")
    if not held:
        raise RecdbError(
            "the job no longer holds its lock, so it stopped: a pooler gave it another session",
            "connect the job to PostgreSQL directly",
        )


def be_patient(connection: psycopg.Connection) -> None:
    """Let a statement wait for locks for a bounded time."""
    connection.execute("select set_config('lock_timeout', %s, false)", [LOCK_WAIT])


@contextmanager
def naming_the_blocker(database: Database, waited: str = LOCK_WAIT) -> Iterator[None]:
    """Turn a lock timeout into an error that names the other transaction, and how long it was waited for."""
    try:
        yield
    except psycopg.errors.LockNotAvailable as error:
        blocker = None
        with suppress(psycopg.Error, RecdbError):
            blocker = find_blocker(database)
        raise RecdbError(
            f"recdb's tables have been in use by {blocker or 'another transaction'} for {waited}: the run stopped",
            "end that transaction, and run this again",
        ) from error


def watch_for_lost_client(connection: psycopg.Connection) -> None:
    """Let the server cancel our statements soon after this process died."""
    connection.execute("set client_connection_check_interval = '1s'")
