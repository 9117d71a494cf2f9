"""The job interrupted at any point: the old version keeps serving, and the next run removes all remains."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from support.data import column, recommend, record, tastes, train
from support.waiting import until, waits_for_a_lock

from recdb import job
from recdb.database import Database

# The points at which the job is stopped, and the lock that the test holds there.
STOPS = {
    "weighting the interactions": "lock table recdb.refresh_log in share mode",
    "making the version's tables": "lock table recdb.user_vector in access exclusive mode",
    "building the indexes": "select pg_advisory_lock(4711)",
    "going live": "lock table recdb.user_vector in share update exclusive mode",
}


@contextmanager
def job_stopped(database: Database, db: psycopg.Connection, statement: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run `recdb refresh --full` as a process until it waits for the lock of `statement`; kill it at the end."""
    command = [sys.executable, "-m", "recdb.cli", "refresh", "--full", "--url", database.conninfo]
    with psycopg.connect(database.conninfo) as holder:
        holder.execute(statement)
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            until(lambda: waits_for_a_lock(db) or process.poll() is not None)
            assert process.poll() is None
            yield process
        finally:
            process.kill()
            process.communicate()


def backends(db: psycopg.Connection) -> list[str]:
    """The state and the query of each of the job's connections."""
    return column(
        db.execute(
            "select state || ': ' || query from pg_stat_activity "
            "where datname = current_database() and application_name = 'recdb'"
        )
    )


def learned(db: psycopg.Connection) -> dict[str, bool]:
    """The tables of model versions, and whether each is attached."""
    rows = db.execute(
        "select relname, relispartition from pg_class where relnamespace = 'recdb'::regnamespace "
        "and relkind = 'r' and relname ~ '^(user_vector|item_vector|item_neighbor)_'"
    )
    return dict(rows.fetchall())


@pytest.fixture
def stop_at_index(db: psycopg.Connection) -> None:
    """Make every index build on a version's tables wait for an advisory lock."""
    db.execute("""
        create function wait() returns event_trigger language plpgsql
        as $$ begin perform pg_advisory_xact_lock_shared(4711); end $$;
        create event trigger wait on ddl_command_start when tag in ('CREATE INDEX') execute function wait();
    """)


@pytest.mark.usefixtures("stop_at_index")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["kill -9", "Ctrl-C"])
@pytest.mark.parametrize("stop", STOPS)
def test_an_interrupted_job_leaves_the_old_version_serving_and_nothing_for_the_operator(
    database: Database, db: psycopg.Connection, stop: str, number: signal.Signals
) -> None:
    record(db, tastes())
    served = train(database)
    before = recommend(db, "u1")

    with job_stopped(database, db, STOPS[stop]) as process:
        process.send_signal(number)
        code = process.wait(60)
        # The server notices that the client is gone, while the job's statement still waits.
        until(lambda: not backends(db))
    assert code == (-signal.SIGKILL if number == signal.SIGKILL else 130)
    assert recommend(db, "u1") == before

    assert job.run(database).ran
    assert recommend(db, "u1") == before
    assert set(learned(db)) == {"item_neighbor_1", "item_vector_1", "user_vector_1"} and all(learned(db).values())
    assert column(db.execute("select label from recdb.model")) == [served]

    assert job.run(database, full=True).model == "collaborative_filtering_v2"
    assert {row[3] for row in recommend(db, "u1")} == {"collaborative_filtering_v2"}


def test_a_job_killed_while_it_removes_an_old_version_has_the_next_one_finish(
    database: Database, db: psycopg.Connection
) -> None:
    record(db, tastes())
    train(database), train(database)

    with job_stopped(database, db, "select count(*) from recdb.user_vector") as process:
        process.send_signal(signal.SIGKILL)
        process.wait(60)
        until(lambda: not backends(db))
    assert {row[3] for row in recommend(db, "u1")} == {"collaborative_filtering_v3"}

    assert job.run(database).ran
    assert len(learned(db)) == 6 and all(learned(db).values())
    assert column(db.execute("select state from recdb.models order by label")) == ["retired", "ready", "ready"]


def test_ctrl_c_is_answered_with_one_word_and_exit_code_130(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes())
    command = [sys.executable, "-m", "recdb.cli", "refresh", "--url", database.conninfo]
    with (
        psycopg.connect(database.conninfo) as holder,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process,
    ):
        holder.execute("lock table recdb.refresh_log in share mode")
        until(lambda: waits_for_a_lock(db))
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=60)

    assert process.returncode == 130
    assert complaint.splitlines()[-1] == "interrupted"
    assert "Traceback" not in complaint
    assert db.execute("select count(*) from recdb.model").fetchone() == (0,)
