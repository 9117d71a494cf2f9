"""A history that is loaded after the store was partitioned gets partitions of its own."""

import re
from collections.abc import Iterator

import psycopg
import pytest
from support.aging import Writers, everything, spread, whole
from support.data import column
from support.doctor import find
from support.nights import die_at, remains

from recdb import faults
from recdb.database import Database
from recdb.job.aging import partition

POINTS = faults.POINTS["partitioning"]


@pytest.fixture
def monthly(database: Database, db: psycopg.Connection) -> Iterator[Database]:
    spread(db)
    partition(database, "month")
    yield database


@pytest.mark.parametrize("point", ["", *POINTS])
def test_a_history_that_was_loaded_later_is_split(monthly: Database, db: psycopg.Connection, point: str) -> None:
    db.execute("select recdb.track('old', 'i1', 'like', now() - interval '30 months')")
    assert find(db, "partitions").state == "ok" and partition(monthly, "month").steps == []
    before = set(column(db.execute("select name from recdb.interaction_partitions()")))
    db.execute(
        "insert into recdb.interaction (user_id, item_id, kind, created_at) "
        "select 'u' || n % 40, 'i' || n % 50, 'view', "
        "now() - make_interval(months => 10 + n % 6) from generate_series(1, 1200) n"
    )
    db.execute("insert into recdb.interaction (user_id, item_id, kind, created_at) values "
               "('x', 'i1', 'like', '9999-01-01'), ('x', 'i2', 'like', '0101-01-01'), "
               "('x', 'i3', 'like', '1971-01-01')")  # fmt: skip
    found = find(db, "partitions")
    assert (found.state, found.fix) == ("warn", "recdb partition --every month") and "1,201" in found.message
    if point:
        die_at(point, monthly, "partition", "--every", "month")
        db.execute("select recdb.track('y', 'i1', 'like', now() - interval '11 months')")
        db.execute("update recdb.interaction set kind = 'share' where user_id = 'old'")
        db.execute("delete from recdb.interaction where user_id = 'x' and item_id = 'i2'")
    rows = everything(db)

    with Writers(monthly) as writers:
        partition(monthly, "month")

    made = set(column(db.execute("select name from recdb.interaction_partitions()"))) - before
    assert len(made) >= 7 and whole(db) and writers.errors == []
    mine = "r[01]-|w[01]-|m[01]-"
    assert [row for row in everything(db) if not re.match(mine, row[1])] == rows
    left = column(db.execute("select user_id from recdb.interaction_rest where created_at < '2000-01-01' or "
                             "created_at > '9000-01-01'"))  # fmt: skip
    assert left == ["x"] * (2 if point else 3)
    indexes = "select count(*) from pg_index where indrelid = 'recdb.interaction_rest'::regclass"
    assert column(db.execute(indexes)) == [4]
    assert find(db, "partitions").state == "ok" and partition(monthly, "month").steps == []
    partition(monthly, None, undo=True)
    assert whole(db) and remains(db) == {}


def test_the_split_of_the_rest_is_taken_back(monthly: Database, db: psycopg.Connection) -> None:
    db.execute("insert into recdb.interaction (user_id, item_id, kind, created_at) select 'u1', 'i1', 'view', "
               "now() - interval '10 months' from generate_series(1, 1200)")  # fmt: skip
    rows = everything(db)
    die_at("part copied", monthly, "partition", "--every", "month")

    partition(monthly, None, undo=True)

    assert everything(db) == rows and whole(db) and remains(db) == {}
