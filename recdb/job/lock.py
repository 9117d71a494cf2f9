"""Opening a job: run() and tune() share the lock, the connection and the clean-up at the start."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from recdb.database import Database, connect, fetch_row, require_primary
from recdb.job.versions import clean_up
from recdb.migrate import check_owner, require_installed
from recdb.progress import Report

# The key of an advisory lock: "recjob" in ASCII. A transaction of its own holds the lock, not a session, so that it
# works through a pgbouncer in transaction mode.
JOB_LOCK = 0x7265636A6F62


@contextmanager
def open_job(database: Database, report: Report) -> Iterator[psycopg.Connection | None]:
    """Take the job's lock, remove the remains of earlier runs, and yield a connection in autocommit.

    Yields None if another job is running.
    """
    with connect(database, autocommit=True) as connection, job_lock(database) as locked:
        if not locked:
            yield None
            return
        require_primary(connection)
        require_installed(connection)
        check_owner(connection)
        watch_for_lost_client(connection)
        clean_up(connection, report)
        yield connection


@contextmanager
def job_lock(database: Database) -> Iterator[bool]:
    """Hold the job's lock while the block runs; yield False if another job holds it."""
    with connect(database) as connection:
        (locked,) = fetch_row(connection, "select pg_try_advisory_xact_lock(%s)", [JOB_LOCK])
        # This also ends the query before it. Its snapshot would hold back VACUUM and our own clean-up.
        connection.execute("set local idle_in_transaction_session_timeout = 0")
        yield bool(locked)


def watch_for_lost_client(connection: psycopg.Connection) -> None:
    """Let the server cancel our statements soon after this process died."""
    connection.execute("set client_connection_check_interval = '1s'")
