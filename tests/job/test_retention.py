"""config.retention: old interactions go, and learned weights follow with the next rebuild."""

import psycopg
import pytest
from support.aging import everything, spread
from support.data import column, recommend, train

from recdb import job
from recdb.database import Database
from recdb.job.aging import partition


@pytest.mark.parametrize("parted", [False, True], ids=["rows", "partitions"])
def test_what_is_older_than_the_retention_goes(database: Database, db: psycopg.Connection, parted: bool) -> None:
    spread(db, months=8)
    train(database, dimension=8)
    old = "created_at < now() - interval '100 days'"
    firsts = db.execute("select item_id, first_at from recdb.item_key order by 1").fetchall()
    if parted:
        partition(database, "month")
    (aged,) = column(db.execute(f"select count(*) from recdb.interaction where {old}"))
    weights = db.execute("select * from recdb.user_item_weights order by 1, 2").fetchall()
    popular = db.execute("select * from recdb.popular(20)").fetchall()
    touched = "select item_id from recdb.interaction where user_id = 'u3' and"
    hidden = column(db.execute(f"{touched} {old} except {touched} not {old}"))
    assert aged > 500 and hidden
    assert not {row[0] for row in recommend(db, "u3", 60, fallback="popular")} & set(hidden)

    db.execute("update recdb.config set retention = '100 days'")
    db.execute("call recdb.refresh()")

    whole_months = "date_trunc('month', created_at, 'UTC') + interval '1 month' < now() - interval '100 days'"
    assert column(db.execute(f"select count(*) from recdb.interaction where {whole_months if parted else old}")) == [0]
    # Until a rebuild everything that was learned stays, but the user's own list knows the item no more.
    assert db.execute("select * from recdb.user_item_weights order by 1, 2").fetchall() == weights
    assert db.execute("select * from recdb.popular(20)").fetchall() == popular
    assert {row[0] for row in recommend(db, "u3", 60, fallback="popular")} & set(hidden)

    # Most of what was learned goes, and the rebuild knows that it is meant.
    assert job.run(database, full=True).ran
    live = "select count(*) from (select distinct user_id, item_id from recdb.interaction) i"
    assert column(db.execute("select count(*) from recdb.user_item")) == column(db.execute(live))
    assert db.execute("select item_id, first_at from recdb.item_key order by 1").fetchall() == firsts
    # A loss that is not meant is still refused.
    db.execute("delete from recdb.interaction where created_at < now() - interval '10 days'")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="would be left"):
        job.run(database, full=True)


def test_rows_are_deleted_in_parts(database: Database, db: psycopg.Connection) -> None:
    spread(db, months=3)
    db.execute("update recdb.config set retention = '20 days'")
    assert column(db.execute("select recdb.drop_aged_interactions(700)")) == [0]  # no refresh has read them
    db.execute("update recdb.config set retention = null")
    db.execute("call recdb.refresh()")
    db.execute("update recdb.config set retention = '20 days'")

    parts = [column(db.execute("select recdb.drop_aged_interactions(700)"))[0] for _ in range(3)]

    assert parts == [700, 260, 0]


def test_retention_is_checked_and_null_keeps_all(database: Database, db: psycopg.Connection) -> None:
    spread(db, months=2)
    for wrong in ("0", "-1 day", "1 hour", "2000 years"):
        with pytest.raises(psycopg.errors.CheckViolation):
            db.execute("update recdb.config set retention = %s", [wrong])
    db.execute("call recdb.refresh()")
    assert len(everything(db)) == 960


@pytest.mark.parametrize("parted", [False, True], ids=["rows", "partitions"])
def test_what_no_refresh_has_read_stays(database: Database, db: psycopg.Connection, parted: bool) -> None:
    """A back-dated row that commits after a refresh has read, and before it deletes."""
    spread(db, months=5)
    if parted:
        partition(database, "month")
    db.execute("call recdb.refresh()")
    with psycopg.connect(database.conninfo) as late:
        late.execute("select recdb.track('late', 'i1', 'like', now() - interval '100 days')")
        # It is open while a refresh reads, and so it is new to the next one.
        db.execute("call recdb.refresh()")
    old = "select count(*) from recdb.interaction where created_at < now() - interval '61 days'"
    (aged,) = column(db.execute(old))
    db.execute("update recdb.config set retention = '30 days'")

    while column(db.execute("select recdb.drop_aged_interactions()"))[0]:
        pass

    kept = column(db.execute("select user_id from recdb.interaction where created_at < now() - interval '61 days'"))
    assert "late" in kept and len(kept) < aged
    db.execute("call recdb.refresh()")
    assert column(db.execute(old)) == [0]
    assert column(db.execute("select count(*) from recdb.user_key where user_id = 'late'")) == [1]


def test_restored_rows_of_a_larger_transaction_go(database: Database, db: psycopg.Connection) -> None:
    """A rebuild has read them, though this server has not numbered so many transactions."""
    spread(db, months=3)
    db.execute("update recdb.interaction set recorded_in = '900000000000'")
    db.execute("call recdb.refresh()")
    db.execute("update recdb.config set retention = '20 days'")
    db.execute("call recdb.refresh()")
    assert column(db.execute("select count(*) from recdb.interaction")) == [480]
