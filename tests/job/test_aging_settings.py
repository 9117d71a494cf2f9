"""The settings that an administrator gave the store of interactions stay while it is partitioned by time, and after."""

from collections.abc import Iterator

import psycopg
import pytest
from support.aging import settings_of, spread
from support.data import column

from recdb.database import Database
from recdb.job.aging import partition


@pytest.fixture
def tablespace(db: psycopg.Connection) -> Iterator[str]:
    db.execute("set allow_in_place_tablespaces = on")
    db.execute("create tablespace aging location ''")
    yield "aging"
    db.execute("alter table recdb.interaction set tablespace pg_default")
    db.execute("alter table all in tablespace aging set tablespace pg_default")
    db.execute("drop tablespace aging")


def test_what_an_administrator_set_comes_along(database: Database, db: psycopg.Connection, tablespace: str) -> None:
    """To each partition, to those that are packed or made later, and back."""
    spread(db, months=4)
    db.execute("alter table recdb.interaction set (fillfactor = 80, toast.autovacuum_enabled = off, "
               "autovacuum_vacuum_insert_scale_factor = 0.5)")  # fmt: skip
    db.execute("alter table recdb.interaction alter column user_id set statistics 500, "
               "alter column item_id set (n_distinct = -0.5), alter column metadata set storage external, "
               "alter column metadata set compression pglz")  # fmt: skip
    db.execute(f"alter table recdb.interaction set tablespace {tablespace}")
    wanted = settings_of(db, "interaction")
    assert "fillfactor=80" in str(wanted) and tablespace in str(wanted)

    partition(database, "month")
    db.execute("drop table recdb." + column(db.execute("select max(name) from recdb.interaction_partitions()"))[0])
    db.execute(
        "insert into recdb.interaction (user_id, item_id, kind, created_at) "
        "select 'u' || n, 'i1', 'view', now() - interval '300 days' from generate_series(1, 1200) n"
    )
    db.execute("call recdb.refresh()")
    assert any("split" in step for step in partition(database, "month").steps)

    tables = column(db.execute("select name from recdb.interaction_partitions() union select 'interaction_rest'"))
    assert len(tables) >= 7
    assert {table: settings_of(db, table) for table in tables} == dict.fromkeys(tables, wanted)
    partition(database, None, undo=True)
    assert settings_of(db, "interaction") == wanted
