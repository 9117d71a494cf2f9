"""Holding recdb's tables while they move: every other session waits until the transaction ends."""

import time

import psycopg
from psycopg import sql

from recdb.citus import keep_definitions_here
from recdb.job.rebuild import vacuum
from recdb.preconditions import lock_out_installs

LOCK_TIMEOUT, ATTEMPTS, PAUSE = "100ms", 100, 0.2
HOLD_WAIT = "30 s"
"""How long hold_tables() tries at least, for messages."""


def hold_tables(connection: psycopg.Connection, *, views: bool = False) -> None:
    """Lock the refresh, and the tables of users; raises psycopg's LockNotAvailable if somebody uses them for long.

    While an attempt waits, readers wait behind it: so an attempt is short, and there are many. With `views`, it locks
    recdb's views too, before the tables, as a reader of a view does.
    """
    lock_out_installs(connection)
    connection.execute("select recdb.take_refresh_lock(true)")
    connection.execute("select set_config('client_min_messages', 'error', true)")
    for attempt in range(ATTEMPTS):
        try:
            with connection.transaction():
                connection.execute("select set_config('lock_timeout', %s, true)", [LOCK_TIMEOUT])
                if views:
                    hold_views(connection)
                connection.execute("lock table recdb.interaction, recdb.user_vector in access exclusive mode")
            break
        except psycopg.errors.LockNotAvailable:
            if attempt == ATTEMPTS - 1:
                raise
            time.sleep(PAUSE)
    connection.execute("select set_config('lock_timeout', '0', true)")


def hold_views(connection: psycopg.Connection) -> None:
    """Lock recdb's views alone: LOCK would lock the tables under them, too."""
    keep_definitions_here(connection)
    views = connection.execute(
        "select c.relname from pg_class c where c.relnamespace = 'recdb'::regnamespace and c.relkind = 'v' "
        "order by c.relname"
    ).fetchall()
    for (view,) in views:
        # No view of recdb has this option; PostgreSQL locks the view to take it away.
        connection.execute(sql.SQL("alter view recdb.{} reset (check_option)").format(sql.Identifier(view)))
    # The tables' names are to change on every node.
    connection.execute("select set_config('citus.enable_ddl_propagation', 'on', true)")


def gather_statistics(connection: psycopg.Connection) -> None:
    """Gather statistics of the tables that moved; needs autocommit.

    Without them, PostgreSQL may compare a user with all others instead of searching the HNSW index.
    """
    vacuum(connection)
    connection.execute("analyze recdb.user_vector")


def partitions_of(connection: psycopg.Connection, table: str) -> list[str]:
    """Return the tables that hold the rows of a table: itself, or its partitions."""
    rows = connection.execute(
        "select c.relname from pg_partition_tree(to_regclass('recdb.' || %s::text)) t "
        "join pg_class c on c.oid = t.relid where t.isleaf and c.relkind = 'r' order by c.oid",
        [table],
    ).fetchall()
    return [name for (name,) in rows] or ([table] if not is_partitioned(connection, table) else [])


def is_partitioned(connection: psycopg.Connection, table: str) -> bool:
    """Tell whether a table has partitions."""
    row = connection.execute("select relkind from pg_class where oid = to_regclass('recdb.' || %s::text)", [table])
    return row.fetchone() == ("p",)


def key_columns(connection: psycopg.Connection, table: str, *, with_user: bool) -> sql.Composed:
    """Return the columns of a table's primary key; those of the interactions with the user or without.

    Citus keeps a key unique only if it names the column that rows are spread by.
    """
    rows = connection.execute(
        "select a.attname from pg_constraint c cross join unnest(c.conkey) with ordinality k(number, place) "
        "join pg_attribute a on a.attrelid = c.conrelid and a.attnum = k.number "
        "where c.conrelid = to_regclass('recdb.' || %s::text) and c.contype = 'p' order by k.place",
        [table],
    ).fetchall()
    names = [name for (name,) in rows if name != "user_id"] + (["user_id"] if with_user else [])
    return sql.SQL(", ").join(map(sql.Identifier, names))
