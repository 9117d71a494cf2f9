"""Locks: no other role can hold those of a refresh, a job or an install, and nobody waits without end."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from support.data import column, record, tastes, train
from support.nights import last_runs

from recdb import job, migrate
from recdb.data.attach import attach
from recdb.data.sources import Source
from recdb.database import Database
from recdb.errors import RecdbError
from recdb.job import lock
from recdb.preconditions import INSTALL_LOCK


@pytest.fixture
def stranger(database: Database, db: psycopg.Connection) -> Iterator[psycopg.Connection]:
    """A session of a role without any privilege."""
    db.execute("create role stranger login")
    with psycopg.connect(make_conninfo(database.conninfo, user="stranger"), autocommit=True) as connection:
        yield connection
    db.execute("drop role stranger")


def test_a_stranger_who_holds_every_advisory_lock_stops_nothing(
    database: Database, db: psycopg.Connection, stranger: psycopg.Connection
) -> None:
    record(db, tastes())
    train(database), train(database)
    seen = column(db.execute("select unnest(array[job_lock, activation_lock]) from recdb.secret"))
    for key in [*seen, INSTALL_LOCK, 0x7265636A6F62, 0x72656672657368]:
        stranger.execute("select pg_advisory_lock(%s)", [key])

    migrate.upgrade(database)
    db.execute("select recdb.track('u1', 'i1', 'like')")
    assert job.run(database).ran
    assert job.run(database, full=True, force=True).model == "collaborative_filtering_v3"
    job.activate(database, "collaborative_filtering_v2", lambda line: None)
    db.execute("create table seen (who text, what text, how text)")
    attach(database, [Source("interactions", "seen", {"user": "who", "item": "what", "kind": "how"})])
    db.execute("call recdb.refresh()")

    assert set(column(db.execute("select state from recdb.refresh_log"))) == {"succeeded"}
    assert not set(seen) & set(column(db.execute("select unnest(array[job_lock, activation_lock]) from recdb.secret")))


def test_a_stranger_cannot_take_the_lock_of_a_refresh(db: psycopg.Connection, stranger: psycopg.Connection) -> None:
    db.execute("grant recdb_analyst, recdb_maintainer, recdb_writer to stranger")
    for mode in ("row share", "exclusive", "access exclusive"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege), stranger.transaction():
            stranger.execute(f"lock table recdb.refresh_lock in {mode} mode")
    for call in ("take_refresh_lock(true)", "take_lock('job')", "job_holders()"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            stranger.execute(f"select recdb.{call}")


def test_a_second_job_waits_for_nobody_and_does_nothing(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes())
    train(database)
    with psycopg.connect(database.conninfo, autocommit=True) as other:
        other.execute("select recdb.take_lock('job')")
        before = column(db.execute("select job_lock from recdb.secret"))
        assert not job.run(database, full=True).ran
        assert column(db.execute("select job_lock from recdb.secret")) == before
    assert job.run(database, full=True).ran


def test_a_job_names_the_transaction_that_it_waited_for(
    database: Database, db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(db, tastes())
    train(database)
    monkeypatch.setattr(lock, "LOCK_WAIT", "50ms")
    with psycopg.connect(database.conninfo, application_name="forgotten") as idle:
        idle.execute("select recdb.forget_user('u1')")
        with pytest.raises(RecdbError, match=rf"process {idle.info.backend_pid} .*application forgotten"):
            job.run(database, full=True)
        notices: list[str] = []
        db.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
        db.execute("call recdb.refresh()")
        assert f"process {idle.info.backend_pid} (role postgres, application forgotten, since" in notices[0]
    assert last_runs(db)["rebuild"] == "failed"
    assert "locked by process" in column(db.execute("select last_error from recdb.health"))[0]
    assert job.run(database, full=True).model == "collaborative_filtering_v2"


def test_an_attach_beside_an_install_names_it(
    database: Database, db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    db.execute("create table seen (who text, what text, how text)")
    with psycopg.connect(database.conninfo) as installing:
        installing.execute("select pg_advisory_xact_lock(%s)", [INSTALL_LOCK])
        with pytest.raises(RecdbError, match=f"process {installing.info.backend_pid} .* is installing"):
            attach(database, [Source("interactions", "seen", {"user": "who", "item": "what", "kind": "how"})])
