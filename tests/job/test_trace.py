"""The trace of each run: refresh_log says when it started and how it ended; health and doctor read it."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from support.data import column, record, tastes, train
from support.doctor import find
from support.nights import last_runs, remains
from support.waiting import until, waits_for_a_lock

from recdb import job
from recdb.database import Database
from recdb.errors import RecdbError


@pytest.fixture
def trained(database: Database, db: psycopg.Connection) -> psycopg.Connection:
    """The test's connection, to a database with a version that serves."""
    record(db, tastes())
    train(database)
    return db


WAITS = "select exists (select from pg_stat_activity where pid = %s and wait_event_type = 'Lock')"


def runs(db: psycopg.Connection) -> list[Any]:
    return db.execute("select kind, state, error is null from recdb.refresh_log order by run_id").fetchall()


def make_fail(db: psycopg.Connection, statement: str) -> None:
    """Run a statement of PL/pgSQL inside every refresh that has changes to read."""
    db.execute(f"create function fail() returns trigger language plpgsql as $$ begin {statement}; return new; end $$")
    db.execute("create trigger fail before insert on recdb.user_item_recent execute function fail()")
    db.execute("select recdb.track('u1', 'brand-new', 'like')")


def test_every_kind_of_run_has_a_row_with_its_end(database: Database, trained: psycopg.Connection) -> None:
    job.run(database)
    second = train(database)
    job.activate(database, "collaborative_filtering_v1", lambda line: None)
    assert runs(trained) == [
        (kind, "succeeded", True) for kind in ("rebuild", "train", "refresh", "rebuild", "train", "activate")
    ]
    assert column(trained.execute("select model from recdb.refresh_log where kind in ('train', 'activate')")) == [
        "collaborative_filtering_v1",
        second,
        "collaborative_filtering_v1",
    ]
    times = "select bool_and(finished_at >= started_at and pid is not null) from recdb.refresh_log"
    assert column(trained.execute(times)) == [True]


@pytest.mark.parametrize(
    ("statement", "setting", "error", "state"),
    [
        ("perform pg_sleep(60)", "statement_timeout = '300ms'", psycopg.errors.QueryCanceled, "cancelled"),
        ("lock table recdb.model", "lock_timeout = '100ms'", psycopg.errors.LockNotAvailable, "failed"),
        ("assert false, 'disk full'", "lock_timeout = 0", psycopg.errors.AssertFailure, "failed"),
        ("raise 'disk full'", "lock_timeout = 0", psycopg.errors.RaiseException, "failed"),
        ("perform power(10.0::float8, 400)", "lock_timeout = 0", psycopg.errors.NumericValueOutOfRange, "failed"),
    ],
    ids=["statement_timeout", "lock_timeout", "assert", "raise", "overflow"],
)
def test_a_refresh_that_fails_in_any_way_is_traced(
    database: Database, trained: psycopg.Connection, statement: str, setting: str, error: type[Exception], state: str
) -> None:
    make_fail(trained, statement)
    with psycopg.connect(database.conninfo) as holder, psycopg.connect(database.conninfo, autocommit=True) as other:
        holder.execute("select count(*) from recdb.model")
        other.execute(f"set {setting}")
        with pytest.raises(error):
            other.execute("call recdb.refresh()")

    assert runs(trained)[-1] == ("refresh", state, False)
    failing, last_error = trained.execute("select failing, last_error from recdb.health").fetchone() or (None, None)
    assert failing == ["refresh"]
    assert last_error
    assert find(trained, "last run").state == "fail"
    assert last_error in find(trained, "last run").message

    trained.execute("drop trigger fail on recdb.user_item_recent")
    trained.execute("call recdb.refresh()")
    assert runs(trained)[-1] == ("refresh", "succeeded", True)
    assert trained.execute("select failing, last_error from recdb.health").fetchone() == (None, None)
    assert find(trained, "last run").state == "ok"
    assert remains(trained) == {}


def test_a_failed_training_is_seen_though_refreshes_succeed_afterwards(
    database: Database, trained: psycopg.Connection
) -> None:
    trained.execute("update recdb.interaction_kind set weight = 0")
    with pytest.raises(RecdbError, match="weigh 0"):
        job.run(database, full=True)
    trained.execute("update recdb.interaction_kind set weight = 1")
    trained.execute("call recdb.refresh()")

    assert runs(trained)[-2:] == [("train", "failed", False), ("refresh", "succeeded", True)]
    assert column(trained.execute("select failing from recdb.health")) == [["train"]]
    assert "all of them weigh 0" in find(trained, "last run").message

    train(database)
    assert column(trained.execute("select failing from recdb.health")) == [None]


@contextmanager
def refresh_that_waits(database: Database, db: psycopg.Connection) -> Iterator[subprocess.Popen[str]]:
    """A process `recdb refresh` that waits inside of CALL recdb.refresh() until the block ends."""
    make_fail(db, "perform pg_advisory_xact_lock_shared(4711)")
    command = [sys.executable, "-m", "recdb.cli", "refresh", "--url", database.conninfo]
    with psycopg.connect(database.conninfo) as holder:
        holder.execute("select pg_advisory_xact_lock(4711)")
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            until(lambda: waits_for_a_lock(db) or process.poll() is not None)
            assert process.poll() is None
            assert last_runs(db)["refresh"] == "running"
            yield process
        finally:
            process.kill()
            process.communicate()


def cancel(db: psycopg.Connection, function: str) -> None:
    db.execute(
        f"select {function}(pid) from pg_stat_activity where datname = current_database() "
        "and application_name = 'recdb' and wait_event_type = 'Lock'"
    )


@pytest.mark.parametrize(
    ("stop", "state", "said"),
    [
        (lambda db, process: process.send_signal(signal.SIGINT), "cancelled", "interrupted"),
        (lambda db, process: cancel(db, "pg_cancel_backend"), "cancelled", "error: canceling statement"),
        (lambda db, process: cancel(db, "pg_terminate_backend"), "lost", "error: "),
    ],
    ids=["Ctrl-C", "cancelled", "terminated"],
)
def test_a_refresh_stopped_from_outside_is_traced(
    database: Database,
    trained: psycopg.Connection,
    stop: Callable[[psycopg.Connection, subprocess.Popen[str]], None],
    state: str,
    said: str,
) -> None:
    with refresh_that_waits(database, trained) as process:
        stop(trained, process)
        _, complaint = process.communicate(timeout=60)
    lines = complaint.splitlines()
    assert "Traceback" not in complaint and any(line.startswith(said) for line in lines)

    until(lambda: last_runs(trained)["refresh"] == state)
    assert column(trained.execute("select failing from recdb.health")) == [["refresh"]]
    trained.execute("drop trigger fail on recdb.user_item_recent")
    assert job.run(database).ran
    assert runs(trained)[-2:] == [("refresh", state, False), ("refresh", "succeeded", True)]
    assert remains(trained) == {}


@pytest.mark.parametrize(
    "call",
    [
        "/* app=cron */ call recdb.refresh()",
        "call recdb.refresh() -- nightly",
        'call "recdb"."refresh" ( ) ;',
        "-- nightly\n CALL recdb . refresh();",
        "/* a; */ /* b */ call /* c */ recdb.refresh(/* d */)",
    ],
)
def test_a_call_with_comments_or_quotes_is_traced_from_its_start(trained: psycopg.Connection, call: str) -> None:
    """Terminated in the middle, it can write no end of its own."""
    before = len(runs(trained))
    trained.execute("select recdb.track('u1', 'i1', 'like')")
    with (
        psycopg.connect(trained.info.dsn) as blocker,
        psycopg.connect(trained.info.dsn, autocommit=True) as calling,
        ThreadPoolExecutor(1) as thread,
    ):
        blocker.execute("lock table recdb.recent_user in access exclusive mode")
        running = thread.submit(calling.execute, call)
        until(lambda: column(trained.execute(WAITS, [calling.info.backend_pid])) == [True])
        trained.execute("select pg_terminate_backend(%s)", [calling.info.backend_pid])
        with pytest.raises(psycopg.errors.AdminShutdown):
            running.result(60)
    until(lambda: last_runs(trained)["refresh"] == "lost")
    assert len(runs(trained)) == before + 1


def test_a_rejected_version_is_traced_as_rejected(database: Database, trained: psycopg.Connection) -> None:
    trained.execute(
        "update recdb.model set metrics = metrics || "
        """'{"validation": {"recall@20": 1, "ndcg@20": 0.99, "interval": [0.98, 1], "users": 400}}'"""
    )
    with pytest.raises(RecdbError, match="clearly worse"):
        job.run(database, full=True)
    assert runs(trained)[-1] == ("train", "rejected", False)


def test_a_run_left_open_by_an_earlier_server_is_lost(database: Database, trained: psycopg.Connection) -> None:
    """The same number may be another process's after a restart: what is older than the server is over."""
    assert column(trained.execute("select recdb.take_lock('job')")) == [True]
    trained.execute(
        "insert into recdb.refresh_log (kind, started_at, state, pid) "
        "values ('train', pg_postmaster_start_time() - interval '1 s', 'running', pg_backend_pid())"
    )
    assert last_runs(trained)["train"] == "lost"
    trained.execute("select pg_advisory_unlock_all()")
    trained.execute("call recdb.refresh()")
    assert column(trained.execute("select state from recdb.refresh_log where kind = 'train' order by run_id")) == [
        "succeeded",
        "lost",
    ]


def test_a_refresh_that_another_one_took_for_lost_leaves_one_row_that_succeeded(trained: psycopg.Connection) -> None:
    """Between the row of its start and its lock, another run may begin."""
    trained.execute("alter function recdb.refresh_changed() rename to then_refresh")
    trained.execute("""
        create function recdb.refresh_changed() returns boolean language plpgsql as $$
        begin
            update recdb.refresh_log set state = 'lost' where state = 'running';
            return recdb.then_refresh();
        end $$""")
    trained.execute("select recdb.track('u1', 'brand-new', 'like')")
    before = runs(trained)
    trained.execute("call recdb.refresh()")
    assert runs(trained) == [*before, ("refresh", "succeeded", True)]
