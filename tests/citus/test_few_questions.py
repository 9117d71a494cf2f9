"""Where Citus has spread the interactions, a refresh asks the nodes for all users at once, and few steps read all rows.

Each row that comes to the coordinator costs several times as much as one that a plain server reads.
"""

from collections.abc import Callable

import psycopg
from support.citus import fill
from support.data import record, tastes

from recdb import spread
from recdb.arrays.events import read_events
from recdb.database import Database, connect
from recdb.progress import silent


def calls_of(connection: psycopg.Connection, name: str) -> int:
    """How often the open transaction called a function of recdb."""
    rows = connection.execute(
        "select calls from pg_stat_xact_user_functions where schemaname = 'recdb' and funcname = %s", [name]
    ).fetchall()
    return sum(calls for (calls,) in rows)


def test_a_refresh_asks_once_for_all_users_and_a_rebuild_reads_all_rows_once(make: Callable[[], Database]) -> None:
    database = make()
    fill(database)
    spread.distribute(database, 2, silent)
    with connect(database) as connection:
        record(connection, tastes(users=30, seed=1))
        # An item that nobody had touched: a refresh looks for its first interaction.
        record(connection, [["u3", "a new item", "view"], ["u4", "another one", "like"]])
    with connect(database) as connection:
        connection.execute("set track_functions = 'all'")
        connection.execute("select recdb.refresh_changed()")
        assert connection.execute("select count(*) >= 30 from recdb.recent_user").fetchone() == (True,)
        assert calls_of(connection, "interactions_of_users") == 2
        assert calls_of(connection, "interactions_of") == 1  # broken() asks whether the sources can be read
        connection.commit()

        connection.execute("select recdb.rebuild()")
        assert calls_of(connection, "read_interactions") == 1
        connection.commit()
    with connect(database, autocommit=True) as connection:
        connection.execute("set track_functions = 'all'")
        connection.execute("select pg_stat_reset_single_function_counters('recdb.read_interactions()'::regprocedure)")
        assert len(read_events(connection).users) > 500
        connection.execute("select pg_stat_force_next_flush()")
        assert connection.execute(
            "select coalesce(sum(calls), 0) from pg_stat_user_functions where funcname = 'read_interactions'"
        ).fetchone() == (1,)
