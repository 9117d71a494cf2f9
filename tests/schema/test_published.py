"""Logical replication: with all tables published, every change of recdb still works, and takes itself out elsewhere.

PostgreSQL refuses to update or delete a published row that nothing identifies.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from support.aging import spread
from support.data import column, record, train

from recdb import job, migrate
from recdb.data.load import load
from recdb.database import Database
from recdb.job.aging import partition

# The published tables whose rows nothing identifies.
ANONYMOUS = """
    select c.oid::regclass::text
    from pg_class c
    where c.relnamespace = 'recdb'::regnamespace and c.relkind = 'r' and c.relpersistence = 'p'
      and c.relreplident <> 'f' and not exists (
          select from pg_index x
          where x.indrelid = c.oid and x.indisvalid
            and case c.relreplident when 'd' then x.indisprimary when 'i' then x.indisreplident end)
    order by 1
"""


@pytest.fixture
def published(database: Database, db: psycopg.Connection) -> Iterator[psycopg.Connection]:
    """A connection to a database whose tables are all published, from before the first row on."""
    db.execute("set client_min_messages = error")  # this server's log does not hold enough for a subscriber
    db.execute("create publication everything for all tables")
    yield db
    assert column(db.execute(ANONYMOUS)) == []


def test_users_are_forgotten_and_merged_with_their_impressions(
    database: Database, published: psycopg.Connection
) -> None:
    spread(published, months=2)
    train(database, dimension=8)
    # Known users, and ids that wait for the next refresh; some of them in a week that has no partition yet.
    published.execute("call recdb.refresh()")
    for user in ("u1", "u2", "guest", "stranger"):
        published.execute("select recdb.impressions(%s, array['i1', 'i2', 'unknown'])", [user])
    published.execute("select recdb.track('guest', 'i1', 'like')")
    shown = "select count(*) from (select from recdb.impression union all select from recdb.impression_new) s"
    before = column(published.execute(shown))[0]

    published.execute("select recdb.forget_user('stranger')")
    published.execute("select recdb.forget_user('u2')")
    assert column(published.execute(shown)) == [before - 6]
    published.execute("select recdb.merge_users('guest', 'u1')")
    published.execute("call recdb.refresh()")
    assert column(published.execute("select count(*) from recdb.impression")) == [before - 6]
    assert column(published.execute("select count(*) from recdb.impression_new")) == [0]
    published.execute("select recdb.forget_user('u1')")
    assert column(published.execute(shown)) == [0]


def test_a_store_is_partitioned_packed_joined_and_forgets(
    database: Database, published: psycopg.Connection, tmp_path: Path
) -> None:
    spread(published, months=5)
    train(database, dimension=8)
    assert partition(database, "month").partitions >= 7
    assert column(published.execute(ANONYMOUS)) == []
    history = tmp_path / "history.csv"
    moment = datetime.now(UTC) - timedelta(days=300)
    lines = [f"u{n % 40},i{n % 60},view,{moment.isoformat()}" for n in range(1200)]
    history.write_text("\n".join(["user_id,item_id,kind,created_at", *lines]))
    load(database, str(history))
    assert any("more partitions" in step for step in partition(database, "month").steps)  # of the rest
    job.run(database)
    published.execute("select recdb.forget_user('u3')")
    published.execute("update recdb.interaction set kind = 'share' where user_id = 'u4'")
    published.execute("update recdb.config set retention = '100 days'")
    job.run(database, full=True, force=True)
    assert column(published.execute("select count(*) from recdb.interaction where created_at < now() - '140 days'"
                                    "::interval")) == [0]  # fmt: skip
    assert column(published.execute(ANONYMOUS)) == []
    partition(database, None, undo=True)
    published.execute("select recdb.forget_user('u5')")
    assert column(published.execute("select count(*) from recdb.interaction where user_id in ('u3', 'u5')")) == [0]


def test_an_install_from_before_is_made_whole(database: Database, published: psycopg.Connection) -> None:
    """And a table whose identity somebody chose keeps it."""
    record(published, [("u1", "i1", "like"), ("u2", "i1", "like")])
    published.execute("call recdb.refresh()")
    published.execute("select recdb.impressions('u1', array['i1'])")
    published.execute("call recdb.refresh()")
    parts = column(published.execute("select inhrelid::regclass from pg_inherits "
                                     "where inhparent = 'recdb.impression'::regclass"))  # fmt: skip
    for table in [*parts, "recdb.impression_new"]:
        published.execute(f"alter table {table} replica identity default")
    published.execute("alter table recdb.item replica identity full")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="replica identity"):
        published.execute("select recdb.forget_user('u1')")

    migrate.upgrade(database)

    assert column(published.execute("select recdb.forget_user('u1')"))[0] > 1
    assert column(published.execute("select relreplident from pg_class where oid = 'recdb.item'::regclass")) == ["f"]
