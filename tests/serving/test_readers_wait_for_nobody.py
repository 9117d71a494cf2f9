"""Readers with a lock_timeout beside everything else: no error, no wait, no empty list, no mixture.

The job and migrations wait for a lock for 20 ms at a time, and for 2 seconds in all. Readers wait for at most 1 second:
less than a job that waits for an analyst, and more than a busy machine may stop a process.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from support.data import column, recommend, record, tastes, train
from support.nights import remains
from support.waiting import until, waits_for_a_lock

from recdb import job, migrate
from recdb.data.attach import attach, detach
from recdb.data.sources import Source
from recdb.database import Database
from recdb.errors import RecdbError

SEEN = Source("interactions", "seen", {"user": "who", "item": "what", "kind": "how", "at": "at"})


class Readers:
    """Threads that read lists all the time, and note every error, empty list and mixture of versions."""

    def __init__(self, database: Database, count: int = 3) -> None:
        self.database, self.stopped, self.problems = database, threading.Event(), list[str]()
        self.read = [0] * count
        self.threads = [threading.Thread(target=self.run, args=[number]) for number in range(count)]

    def run(self, number: int) -> None:
        with psycopg.connect(self.database.conninfo, autocommit=True) as connection:
            connection.execute("set lock_timeout = '1s'")
            while not self.stopped.is_set():
                user = f"u{(number + self.read[number]) % 40}"
                try:
                    rows = recommend(connection, user)
                    connection.execute("select * from recdb.explain(%s, 'i3')", [user]).fetchall()
                    recommend(connection, "nobody", fallback="popular")
                except psycopg.Error as error:
                    self.problems.append(repr(error))
                    return
                if not rows or len({row[3] for row in rows}) != 1:
                    self.problems.append(f"{user}: {len(rows)} rows of { ({row[3] for row in rows}) }")
                self.read[number] += 1

    def each_reads_again(self, times: int = 3) -> None:
        """Wait until every reader has read some more lists."""
        before = list(self.read)
        until(lambda: self.problems or all(now >= then + times for now, then in zip(self.read, before, strict=True)))
        assert self.problems == []


@pytest.fixture
def readers(database: Database, db: psycopg.Connection) -> Iterator[Readers]:
    """Readers of a trained database; the test fails if one of them met a problem."""
    record(db, tastes())
    train(database), train(database)
    reading = Readers(database)
    for thread in reading.threads:
        thread.start()
    try:
        reading.each_reads_again()
        yield reading
        reading.each_reads_again()
    finally:
        reading.stopped.set()
        for thread in reading.threads:
            thread.join()
    assert reading.problems == []


@pytest.fixture
def in_background() -> Iterator[Callable[..., "Future[Any]"]]:
    with ThreadPoolExecutor(12) as threads:
        yield threads.submit


def test_beside_refreshes_trainings_and_activations(
    database: Database, db: psycopg.Connection, readers: Readers
) -> None:
    for number in range(3):
        db.execute("select recdb.track(%s, 'i1', 'like')", [f"u{number}"])
        db.execute("call recdb.refresh()")
        label = job.run(database, full=True, force=True).model
        kept = column(db.execute("select label from recdb.models where state = 'ready' and not active"))
        job.activate(database, kept[0], lambda line: None)
        job.activate(database, str(label), lambda line: None)
    readers.each_reads_again()
    assert remains(db) == {}


def test_while_an_old_version_is_dropped_that_an_analyst_reads(
    database: Database, db: psycopg.Connection, readers: Readers, in_background: Callable[..., "Future[Any]"]
) -> None:
    with psycopg.connect(database.conninfo) as analyst:
        analyst.execute("select count(*) from recdb.user_vector")
        running = in_background(job.run, database, full=True, force=True)
        until(lambda: waits_for_a_lock(db) or running.done())
        readers.each_reads_again()
        assert running.result(120).model is not None
        readers.each_reads_again()
    assert job.run(database).ran
    assert remains(db) == {}


def test_beside_attach_detach_and_a_replay(database: Database, db: psycopg.Connection, readers: Readers) -> None:
    db.execute("create table seen (who text, what text, how text, at timestamptz)")
    db.execute("insert into seen values ('u1', 'i1', 'like', now())")
    for _ in range(2):
        attach(database, [SEEN])
        migrate.upgrade(database)
        detach(database, None)
    readers.each_reads_again()


def test_beside_the_first_rebuild_with_rows(
    database: Database, db: psycopg.Connection, in_background: Callable[..., "Future[Any]"]
) -> None:
    db.execute("select recdb.rebuild()")
    record(db, tastes())
    with psycopg.connect(database.conninfo) as analyst, psycopg.connect(database.conninfo, autocommit=True) as other:
        analyst.execute("select count(*) from recdb.user_item_weights")
        in_background(db.execute, "select recdb.rebuild()").result(60)
        other.execute("set lock_timeout = '1s'")
        for query in ("select * from recdb.user_item_weights", "select * from recdb.health"):
            assert other.execute(query).fetchone()


def test_beside_an_attach_and_an_init_that_wait_for_an_analyst(
    database: Database,
    db: psycopg.Connection,
    readers: Readers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody waits longer for the waiting ones than they wait themselves, and those give up and name the blocker."""
    monkeypatch.setattr(migrate, "ATTEMPTS", 3)
    db.execute("create table seen (who text, what text, how text, at timestamptz)")
    with (
        psycopg.connect(database.conninfo, application_name="analyst") as analyst,
        psycopg.connect(database.conninfo, autocommit=True) as monitor,
    ):
        analyst.execute("select * from recdb.models, recdb.interactions limit 1")
        stopped, problems = threading.Event(), []

        def watch() -> None:
            monitor.execute("set lock_timeout = '1s'")
            while not stopped.is_set():
                try:
                    monitor.execute("select label from recdb.models where active")
                    monitor.execute("select count(*) from recdb.interactions")
                except psycopg.Error as error:
                    problems.append(error)

        watching = threading.Thread(target=watch)
        watching.start()
        try:
            with pytest.raises(RecdbError, match=f"process {analyst.info.backend_pid} .*application analyst"):
                migrate.upgrade(database)
            attach(database, [SEEN])
        finally:
            stopped.set()
            watching.join()
        assert problems == []
    migrate.upgrade(database)
    attach(database, [SEEN])


def test_an_init_goes_on_when_the_analyst_ends(
    database: Database, db: psycopg.Connection, in_background: Callable[..., "Future[Any]"]
) -> None:
    with psycopg.connect(database.conninfo) as analyst:
        analyst.execute("select * from recdb.models")
        upgrading = in_background(migrate.upgrade, database)
        until(lambda: waits_for_a_lock(db) or upgrading.done())
    upgrading.result(60)


def test_eight_writers_two_jobs_and_two_refreshes_at_once(
    database: Database, db: psycopg.Connection, readers: Readers, in_background: Callable[..., "Future[Any]"]
) -> None:
    stopped = threading.Event()

    def write(number: int) -> int:
        count = 0
        with psycopg.connect(database.conninfo, autocommit=True) as connection:
            while not stopped.is_set():
                connection.execute("select recdb.track(%s, %s, 'view')", [f"u{count % 40}", f"i{number}"])
                if count % 50 == 10:
                    connection.execute("select recdb.forget_user(%s)", [f"w{number}"])
                    connection.execute("select recdb.track(%s, 'i2', 'like')", [f"w{number}"])
                count += 1
        return count

    def refresh() -> int:
        count = 0
        with psycopg.connect(database.conninfo, autocommit=True) as connection:
            while not stopped.is_set():
                connection.execute("call recdb.refresh()")
                count += 1
        return count

    with contextlib.ExitStack() as ending:
        ending.callback(stopped.set)
        beside = [in_background(write, number) for number in range(8)] + [in_background(refresh) for _ in range(2)]
        outcomes = [job.run(database, full=True, force=True), job.run(database, full=True, force=True)]
        twice = [in_background(job.run, database, full=True, force=True) for _ in range(2)]
        outcomes += [each.result(300) for each in twice]
        readers.each_reads_again()
    assert all(each.result(60) > 0 for each in beside)
    assert sum(outcome.ran for outcome in outcomes) >= 3
    db.execute("call recdb.refresh()")
    assert set(column(db.execute("select distinct state from recdb.refresh_log"))) == {"succeeded"}
    assert job.run(database).ran
    assert remains(db) == {}
    assert column(db.execute("select deadlocks from pg_stat_database where datname = current_database()")) == [0]
