"""Interactions of some months, the whole state of the store, and sessions that write and read it all the time."""

import threading
from collections.abc import Callable
from typing import Any

import psycopg
from support.data import column, recommend, tastes
from support.waiting import until

from recdb.database import Database


def spread(db: psycopg.Connection, months: int = 5) -> None:
    """Interactions of 40 users in as many months, the newest now, each in a transaction of its own only by month."""
    for month in range(months):
        rows = [(*row, month) for row in tastes(seed=month)]
        db.cursor().executemany(
            "insert into recdb.interaction (user_id, item_id, kind, created_at) "
            "values (%s, %s, %s, now() - make_interval(months => %s))",
            rows,
        )


def everything(db: psycopg.Connection) -> list[Any]:
    """All interactions, each with its id and its transaction."""
    return db.execute(
        "select interaction_id, user_id, item_id, kind, created_at, metadata, value, recorded_in::text "
        "from recdb.interaction order by interaction_id, user_id"
    ).fetchall()


def schema_of(db: psycopg.Connection) -> list[Any]:
    """The columns, constraints, indexes, grants and dependents of the store, and all tables of recdb."""
    return db.execute(
        """
        with store as (select 'recdb.interaction'::regclass as oid)
        select concat_ws(' ', a.attnum, a.attname, a.atttypid::regtype, a.attnotnull, a.attidentity,
            pg_get_expr(d.adbin, d.adrelid), col_description(a.attrelid, a.attnum))
        from store s join pg_attribute a on a.attrelid = s.oid and a.attnum > 0
        left join pg_attrdef d on d.adrelid = s.oid and d.adnum = a.attnum
        union all
        select n.conname || pg_get_constraintdef(n.oid) from store s join pg_constraint n on n.conrelid = s.oid
        union all
        select pg_get_indexdef(x.indexrelid) from store s join pg_index x on x.indrelid = s.oid
        union all
        select concat_ws(' ', c.relkind, c.reloptions, c.relacl, obj_description(c.oid, 'pg_class'),
            pg_get_serial_sequence('recdb.interaction', 'interaction_id'))
        from store s join pg_class c on c.oid = s.oid
        union all
        select pg_describe_object(d.classid, d.objid, 0) from store s
        join pg_depend d on d.refobjid = s.oid and d.deptype = 'n'
        union all
        select 'table ' || relname from pg_class where relnamespace = 'recdb'::regnamespace and relkind in ('r', 'p')
        order by 1
        """
    ).fetchall()


def settings_of(db: psycopg.Connection, table: str) -> list[Any]:
    """The settings of a table that an administrator may make: storage options, tablespace, and those of its columns."""
    return db.execute(
        """
        select c.reloptions::text, t.reloptions::text, s.spcname, array(
            select concat_ws(' ', a.attname, a.attstorage, a.attcompression, a.attstattarget, a.attoptions)
            from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 order by a.attnum)
        from pg_class c
        left join pg_class t on t.oid = c.reltoastrelid
        left join pg_tablespace s on s.oid = c.reltablespace
        where c.oid = to_regclass('recdb.' || %s::text)
        """,
        [table],
    ).fetchall()


def whole(db: psycopg.Connection) -> bool:
    """Nothing of a conversion is left: no table, trigger, noted change or step to go on with."""
    row = db.execute(
        "select to_regclass('recdb.interaction_next') is null and not exists (select from recdb.partitioning_part) "
        "and not exists (select from recdb.interaction_change) "
        "and not exists (select from recdb.partitioning where source is not null) "
        "and not exists (select from pg_trigger where tgname like 'note\\_%')"
    ).fetchone()
    return row == (True,)


def lists(db: psycopg.Connection) -> list[Any]:
    return [recommend(db, f"u{number}", 20, fallback="popular") for number in range(0, 40, 9)]


class Writers:
    """Sessions that track, delete and merge all the time, and readers; the acknowledged rows, and every error."""

    def __init__(self, database: Database) -> None:
        self.database, self.stop = database, threading.Event()
        self.ids: list[int] = []
        self.gone: list[int] = []
        self.errors: list[Exception] = []
        self.reads = 0
        self.threads = [threading.Thread(target=self.work, args=(work, n)) for work in (self.write, self.read)
                        for n in range(2)]  # fmt: skip

    def work(self, step: Callable[[psycopg.Connection, int, int], None], number: int) -> None:
        try:
            with psycopg.connect(self.database.conninfo, autocommit=True) as connection:
                turn = 0
                while not self.stop.wait(0.002):  # else a slow machine writes more than the test needs
                    turn += 1
                    step(connection, number, turn)
        except Exception as error:
            self.errors.append(error)

    def write(self, connection: psycopg.Connection, number: int, turn: int) -> None:
        query = "select recdb.track(%s, %s, 'view', now() - make_interval(days => %s))"
        (new,) = column(connection.execute(query, [f"w{number}-{turn % 7}", f"i{turn % 50}", turn * 13 % 200]))
        self.ids.append(new)
        if turn % 5 == 0:
            connection.execute("delete from recdb.interaction where interaction_id = %s", [new])
            self.gone.append(new)
        if turn % 11 == 0:
            connection.execute("select recdb.merge_users(%s, %s)", [f"w{number}-{turn % 7}", f"m{number}-{turn % 3}"])

    def read(self, connection: psycopg.Connection, number: int, turn: int) -> None:
        # What this session writes is in its next list: the swap hides nothing for a moment.
        user, item = f"r{number}-{turn % 40}", f"i{turn % 60}"
        (new,) = column(connection.execute("select recdb.track(%s, %s, 'like')", [user, item]))
        self.ids.append(new)
        seen = column(connection.execute("select item_id from recdb.interactions_of(%s)", [user]))
        assert item in seen
        connection.execute("select * from recommend('u1', 10)").fetchall()
        self.reads += 1

    def __enter__(self) -> "Writers":
        for thread in self.threads:
            thread.start()
        until(lambda: len(self.ids) > 50 or self.errors)
        return self

    def __exit__(self, *_: object) -> None:
        reads, written = self.reads, len(self.ids)
        until(lambda: (self.reads > reads + 20 and len(self.ids) > written + 50) or self.errors)
        self.stop.set()
        for thread in self.threads:
            thread.join()
        assert self.errors == []

    def expected(self) -> list[int]:
        return sorted(set(self.ids) - set(self.gone))
