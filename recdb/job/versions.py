"""The kept model versions: the active one's parameters, activating another, and removing those that are not kept.

No step of the removal makes a reader wait, and none waits long for a reader. If a transaction still reads an old
version, its tables stay until the next run.
"""

import time
from collections.abc import Callable
from functools import partial

import psycopg
from psycopg import sql

from recdb.citus import is_distributed
from recdb.database import Database, connect, fetch_row, require_primary
from recdb.errors import RecdbError
from recdb.faults import reach
from recdb.job.content import forget_content
from recdb.job.partitions import LEARNED_TABLES
from recdb.job.rebuild import vacuum
from recdb.job.trace import traced
from recdb.learn import Params
from recdb.migrate import require_whole
from recdb.progress import Report

# How long the removal waits for transactions that still read an old version, in seconds. The next run tries again.
PATIENCE = 2.0

# How long one attempt waits. A reader whose statement began before the removal may wait behind it for that long.
LOCK_TIMEOUT = "20ms"

# How long an activation waits for another one, in seconds.
ACTIVATION_WAIT = 60.0


def active_params(connection: psycopg.Connection) -> Params:
    """Return the hyper-parameters of the active version, which `recdb tune` may have chosen, else the defaults."""
    row = connection.execute("select params from recdb.model where active").fetchone()
    return Params.of_version(row[0]) if row else Params()


def activate(database: Database, label: str, report: Report) -> str | None:
    """Make another kept version the active one; return the database's notice if the half-life changes with it.

    Raises psycopg's UndefinedObject if no kept version has that label.
    """
    notices: list[str] = []
    with connect(database, autocommit=True) as connection:
        require_primary(connection)
        require_whole(connection)
        connection.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
        report("activating")
        kept = connection.execute("select from recdb.model where label = %s and state = 'ready'", [label]).fetchone()
        if kept is None:
            connection.execute("select recdb.activate(%s)", [label])  # raises the error
        wait_for_others(connection)
        with traced(connection, database, "activate") as run_id:
            reach("before activating")
            with connection.transaction():
                connection.execute("select recdb.activate(%s)", [label])
                connection.execute("update recdb.refresh_log set model = %s where run_id = %s", [label, run_id])
            reach("after activating")
        if notices:
            vacuum(connection)
    return notices[0] if notices else None


def wait_for_others(connection: psycopg.Connection) -> None:
    """Take the lock of activations for this session: one runs after another."""
    deadline = time.monotonic() + ACTIVATION_WAIT
    while not fetch_row(connection, "select recdb.take_lock('activation')")[0]:
        if time.monotonic() > deadline:
            raise RecdbError("another activation is running: nothing was changed", "try again when it is done")
        time.sleep(0.05)


def clean_up(connection: psycopg.Connection, report: Report) -> None:
    """Remove the versions beyond `config.kept_models` and the tables of interrupted runs.

    Needs autocommit and the job's lock. If a long transaction still reads an old version, clean_up() reports this and
    leaves the tables for the next run.
    """
    retire_versions(connection)
    connection.execute("delete from recdb.model where state = 'training'")
    forget_content(connection)
    reach("versions retired")
    (before,) = fetch_row(connection, "select current_setting('lock_timeout')")
    connection.execute("select set_config('lock_timeout', %s, false)", [LOCK_TIMEOUT])
    try:
        patiently(partial(detach_partitions, connection))
        reach("partitions detached")
        patiently(partial(drop_tables, connection))
    except psycopg.errors.LockNotAvailable:
        report("an old model version is still being read: the next run removes it")
    finally:
        connection.execute("select set_config('lock_timeout', %s, false)", [before])
    reach("tables dropped")


def patiently(step: Callable[[], None]) -> None:
    """Repeat a step that does not get a lock, for PATIENCE seconds; raises psycopg's LockNotAvailable after that.

    Between two attempts the transactions that queue behind the step get their turn.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            step()
            return
        except psycopg.errors.LockNotAvailable:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.02)


def retire_versions(connection: psycopg.Connection) -> None:
    """Mark the versions that are not kept as retired: from now on recommend() refuses their labels.

    The active version is kept, so are those that a running experiment compares, and then those that were active last; a
    version that never was active counts by the time of its training.
    """
    connection.execute(
        """
        update recdb.model set state = 'retired'
        where state = 'ready' and not active
          and label not in (
            select v.model_version
            from recdb.experiment_variant v
            join recdb.experiment e on e.name = v.experiment
            where e.started_at is not null and e.stopped_at is null and v.model_version is not null)
          and model_id not in (
            select model_id from recdb.model where state = 'ready'
            order by active desc, coalesce(activated_at, created_at) desc, model_id desc
            limit (select kept_models from recdb.config))
        """
    )


def detach_partitions(connection: psycopg.Connection) -> None:
    """Detach the partitions of versions that are not ready.

    A plain detach would wait for any open reader, and make every later reader wait. A concurrent detach that timed out
    stays pending; it must be finished before the next detach from the same table. Citus has the plain detach only.
    """
    plain = "user_vector" if is_distributed(connection, "user_vector") else None
    attached = connection.execute(
        """
        select p.relname, c.relname, i.inhdetachpending
        from pg_inherits i
        join pg_class c on c.oid = i.inhrelid
        join pg_class p on p.oid = i.inhparent
        join pg_namespace n on n.oid = p.relnamespace and n.nspname = 'recdb'
        where p.relname = any (%s) and not exists (
            select from recdb.model m
            where m.state = 'ready' and c.relname = p.relname || '_' || m.model_id)
        order by i.inhdetachpending desc, c.oid
        """,
        [list(LEARNED_TABLES)],
    ).fetchall()
    for parent, child, pending in attached:
        connection.execute(
            sql.SQL("alter table recdb.{} detach partition recdb.{} {}").format(
                sql.Identifier(parent),
                sql.Identifier(child),
                sql.SQL("finalize" if pending else "" if parent == plain else "concurrently"),
            )
        )


def drop_tables(connection: psycopg.Connection) -> None:
    """Drop the learned tables that are not partitions: detached ones, and those of interrupted trainings."""
    orphans = connection.execute(
        """
        select c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace and n.nspname = 'recdb'
        where c.relkind = 'r' and not c.relispartition
          and c.relname ~ ('^(' || array_to_string(%s::text[], '|') || ')_[0-9]+$')
        """,
        [list(LEARNED_TABLES)],
    ).fetchall()
    for (orphan,) in orphans:
        connection.execute(sql.SQL("drop table recdb.{}").format(sql.Identifier(orphan)))
