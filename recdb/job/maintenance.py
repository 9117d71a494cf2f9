"""The maintenance job: refresh in SQL, and train a new model version when it is time.

A version is trained beside the one that serves: its vectors go into tables of their own, which become partitions
in the one short transaction that also flips `active`, unless the new version measures clearly worse. Whatever cuts
the job off, the old version stays served, and the next run removes what was left.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import psycopg

from recdb.arrays.settings import read_settings
from recdb.database import Database, connect
from recdb.errors import Rejected
from recdb.job.guard import measure
from recdb.job.publish import publish
from recdb.job.train import fit_width, train
from recdb.job.versions import clean_up
from recdb.learn import Params
from recdb.migrate import require_installed
from recdb.progress import Report, silent

# An advisory lock's key: "recjob" in ASCII. It is held by a transaction of its own, not by a session, so that
# it works through a transaction-pooling pgbouncer.
JOB_LOCK = 0x7265636A6F62


@dataclass(frozen=True)
class Outcome:
    """What a run of the job did."""

    ran: bool
    """False where another job was running and nothing was done."""
    refreshed: bool = False
    model: str | None = None
    """The label of the version that was trained and activated, if one was."""
    seconds: float = 0.0


def run(
    database: Database,
    *,
    full: bool = False,
    if_stale: timedelta | None = None,
    force: bool = False,
    params: Params | None = None,
    report: Report = silent,
) -> Outcome:
    """Refresh, and train when there is no model, when `full`, or when the last training is older than `if_stale`.

    It trains with `params`, else with those of the active version, else with the defaults. The new version becomes the
    active one, unless it is clearly worse and not `force`: then the old one keeps serving, and Rejected is raised.

    Two jobs at once: the second does nothing and says so by `ran=False`.
    """
    began = time.monotonic()
    with open_job(database, report) as connection:
        if connection is None:
            return Outcome(ran=False)
        if not (full or is_stale(connection, if_stale)):
            report("refreshing changed users")
            connection.execute("call recdb.refresh()")
            return Outcome(ran=True, refreshed=True, seconds=time.monotonic() - began)
        rebuild(connection, report)
        settings = read_settings(connection)
        params = fit_width(params or active_params(connection), settings)
        started = time.monotonic()
        figure = measure(connection, params, settings, report)
        trained = train(connection, params, settings, report)
        seconds = time.monotonic() - started
        rejected = publish(connection, trained, figure, seconds, "always" if force else "unless worse")
        clean_up(connection, report)
        if rejected:
            raise Rejected(rejected, how_to_take(connection, trained.label), trained.label)
        return Outcome(ran=True, refreshed=True, model=trained.label, seconds=time.monotonic() - began)


def how_to_take(connection: psycopg.Connection, label: str) -> str:
    """Say how a rejected version serves all the same; with config.kept_models at 1 it is gone already."""
    kept = connection.execute("select from recdb.model where label = %s and state = 'ready'", [label]).fetchone()
    commands = [f"recdb activate {label}"] * (kept is not None) + ["recdb refresh --full --force"]
    return f"to take it all the same: {', or '.join(commands)}"


@contextmanager
def open_job(database: Database, report: Report) -> Iterator[psycopg.Connection | None]:
    """Yield a connection in autocommit, with the job's lock held and nothing left of earlier runs.

    Yields None where another job is running.
    """
    with connect(database, autocommit=True) as connection, job_lock(database) as locked:
        if not locked:
            yield None
            return
        require_installed(connection)
        watch_for_lost_client(connection)
        clean_up(connection, report)
        yield connection


def is_stale(connection: psycopg.Connection, age: timedelta | None) -> bool:
    """Say whether no version is active, or the last training, whatever became of it, is older than `age`."""
    row = connection.execute(
        "select now() - (select max(created_at) from recdb.model where state <> 'training') "
        "from recdb.model where active"
    ).fetchone()
    return row is None or (age is not None and bool(row[0] > age))


def rebuild(connection: psycopg.Connection, report: Report) -> None:
    """Build the weighted interactions from scratch, and make them quick to read."""
    report("weighting interactions")
    connection.execute("select recdb.rebuild()")
    vacuum(connection)


def activate(database: Database, label: str, report: Report) -> str | None:
    """Let another kept version serve; return what was said about its half-life, where that is another one.

    Raises psycopg's UndefinedObject where no kept version has that label.
    """
    notices: list[str] = []
    with connect(database, autocommit=True) as connection:
        require_installed(connection)
        connection.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
        report("activating")
        connection.execute("select recdb.activate(%s)", [label])
        if notices:
            vacuum(connection)
    return notices[0] if notices else None


def vacuum(connection: psycopg.Connection) -> None:
    """Make the weighted interactions quick to read after a rebuild."""
    # Index-only scans of the neighbours' items need the visibility map.
    connection.execute(
        "vacuum (analyze) recdb.user_item_settled, recdb.item_popularity, recdb.user_key, recdb.item_key, "
        "recdb.user_item_recent, recdb.recent_user, recdb.interaction, recdb.interaction_kind, recdb.config"
    )


def active_params(connection: psycopg.Connection) -> Params:
    """Return the active version's hyper-parameters, which `recdb tune` may have chosen; else the defaults."""
    row = connection.execute("select params from recdb.model where active").fetchone()
    return Params.from_json(row[0]) if row else Params()


@contextmanager
def job_lock(database: Database) -> Iterator[bool]:
    """Hold the job's lock while the block runs; yield False where another job has it."""
    with connect(database) as connection:
        row = connection.execute("select pg_try_advisory_xact_lock(%s)", [JOB_LOCK]).fetchone()
        # Also closes the query before it, whose snapshot would hold back vacuum, and our own clean-up.
        connection.execute("set local idle_in_transaction_session_timeout = 0")
        yield bool(row and row[0])


def watch_for_lost_client(connection: psycopg.Connection) -> None:
    """Let the server end our statements soon after this process died, instead of finishing them for nobody."""
    connection.execute("set client_connection_check_interval = '1s'")
