"""CALL recdb.refresh() beside open transactions and in a caller's transaction, and refreshes that fail."""

from collections.abc import Iterator

import psycopg
import pytest
from support.data import recommend, record, tastes, train
from support.refreshing import log, refresh, track, weights

from recdb.database import Database


@pytest.fixture
def other(database: Database) -> Iterator[psycopg.Connection]:
    """A second connection with a transaction that stays open until the test ends it."""
    with psycopg.connect(database.conninfo) as connection:
        yield connection
        connection.rollback()


def break_refresh(connection: psycopg.Connection) -> None:
    """Make every refresh fail that has changes to read."""
    connection.execute("create function fail() returns trigger language plpgsql as $$ begin raise 'disk full'; end $$")
    connection.execute("create trigger fail before insert on recdb.user_item_recent execute function fail()")


def test_late_commits_are_seen(database: Database, db: psycopg.Connection, other: psycopg.Connection) -> None:
    """A transaction that wrote before two refreshes and commits between or after them."""
    record(db, tastes())
    train(database)
    track(other, ("u1", "late", "like"))
    track(db, ("u2", "in time", "like"))
    refresh(db)
    assert ("u1", "late") not in weights(db)
    assert weights(db)["u2", "in time"] == 0.7
    refresh(db)
    other.commit()
    refresh(db)
    assert weights(db)["u1", "late"] == 0.7


def test_a_commit_during_a_rebuild_is_seen(
    database: Database, db: psycopg.Connection, other: psycopg.Connection
) -> None:
    record(db, tastes())
    track(other, ("u1", "late", "like"))
    train(database)
    other.commit()
    refresh(db)
    assert weights(db)["u1", "late"] == 0.7


def test_a_failure_is_logged_committed_and_raised(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes())
    train(database)
    known = weights(db)
    track(db, ("u1", "brand-new", "like"))
    break_refresh(db)

    with pytest.raises(psycopg.errors.RaiseException, match="disk full"):
        refresh(db)

    with psycopg.connect(database.conninfo) as later:
        assert log(later)[-1] == ("refresh", "disk full", None, None)
        assert later.execute("select last_error from recdb.health").fetchone() == ("disk full",)
        assert weights(later) == known
    db.execute("drop trigger fail on recdb.user_item_recent")
    refresh(db)
    assert weights(db)["u1", "brand-new"] == 0.7
    assert log(db)[-1][:2] == ("refresh", None)


def test_in_a_callers_transaction_a_failure_is_only_raised(db: psycopg.Connection) -> None:
    record(db, tastes())
    refresh(db)
    runs = log(db)
    break_refresh(db)
    with pytest.raises(psycopg.errors.RaiseException, match="disk full"), db.transaction():
        track(db, ("u1", "brand-new", "like"))
        refresh(db)
    assert log(db) == runs
    assert db.execute("select count(*) from recdb.interaction where item_id = 'brand-new'").fetchone() == (0,)


@pytest.mark.parametrize(
    "call", ["begin; call recdb.refresh(); commit", "select refresh_in_a_function()"], ids=["one string", "function"]
)
def test_the_reason_of_a_failure_reaches_a_caller_that_must_not_commit(db: psycopg.Connection, call: str) -> None:
    record(db, tastes())
    refresh(db)
    runs = log(db)
    break_refresh(db)
    db.execute(
        "create function refresh_in_a_function() returns void language plpgsql as $$ begin call recdb.refresh(); end $$"
    )
    track(db, ("u1", "brand-new", "like"))
    told: list[str] = []
    db.add_notice_handler(lambda notice: told.append(notice.message_primary or ""))
    with pytest.raises(psycopg.Error) as raised:
        db.execute(call)
    db.execute("rollback")
    assert "disk full" in " ".join([str(raised.value), *told])
    assert log(db) == runs


def test_in_a_callers_transaction_the_work_is_part_of_it(db: psycopg.Connection, other: psycopg.Connection) -> None:
    record(db, tastes())
    refresh(db)
    known = weights(db)
    track(other, ("u1", "brand-new", "like"))
    refresh(other)
    assert weights(other)["u1", "brand-new"] == 0.7
    other.rollback()
    assert weights(db) == known


def test_of_two_at_once_the_second_does_nothing(db: psycopg.Connection, other: psycopg.Connection) -> None:
    record(db, tastes())
    refresh(db)
    track(db, ("u1", "brand-new", "like"))
    refresh(other)
    runs = log(db)
    notices: list[str | None] = []
    db.add_notice_handler(lambda notice: notices.append(notice.message_primary))
    refresh(db)
    assert log(db) == runs
    assert len(notices) == 1
    assert f"another refresh is running, in process {other.info.backend_pid} " in str(notices[0])
    other.rollback()
    refresh(db)
    assert weights(db)["u1", "brand-new"] == 0.7


def test_readers_go_on_while_a_refresh_is_running(
    database: Database, db: psycopg.Connection, other: psycopg.Connection
) -> None:
    record(db, tastes())
    train(database)
    before = recommend(db, "u1")
    popular = recommend(db, "nobody", fallback="popular")
    track(other, ("u2", "i5", "share"), ("u3", "i5", "share"))
    refresh(other)
    db.execute("set lock_timeout = '1s'")
    assert recommend(db, "u1") == before
    assert recommend(db, "nobody", fallback="popular") == popular
    track(db, ("u4", "i5", "like"))
    db.execute("select * from recdb.health").fetchall()
