"""Model versions that are no longer kept, and what interrupted trainings left: how they leave the database.

No step makes a reader wait, and none waits long for a reader: a transaction that still reads an old version keeps
its tables until the next run.
"""

import psycopg
from psycopg import sql

from recdb.job.partitions import LEARNED_TABLES
from recdb.progress import Report

# How long a step waits for transactions that still read what is to go. The next run tries again.
PATIENCE = "2s"


def clean_up(connection: psycopg.Connection, report: Report) -> None:
    """Remove versions beyond `config.kept_models` and what interrupted runs left; needs autocommit and the job's lock.

    What a long transaction still reads is reported, and left for the next run.
    """
    retire(connection)
    connection.execute("delete from recdb.model where state = 'training'")
    connection.execute("select set_config('lock_timeout', %s, false)", [PATIENCE])
    try:
        detach(connection)
        drop(connection)
    except psycopg.errors.LockNotAvailable:
        report("an old model version is still being read: the next run removes it")
    finally:
        connection.execute("reset lock_timeout")


def retire(connection: psycopg.Connection) -> None:
    """Mark the versions that are not kept: from now on nobody can ask for them.

    Kept are the active one and those served or, where they never were, trained last.
    """
    connection.execute(
        """
        update recdb.model set state = 'retired'
        where state = 'ready' and not active and model_id not in (
            select model_id from recdb.model where state = 'ready'
            order by active desc, coalesce(activated_at, created_at) desc, model_id desc
            limit (select kept_models from recdb.config))
        """
    )


def detach(connection: psycopg.Connection) -> None:
    """Take the partitions of versions that are not ready out of the tables that readers name.

    A plain detach would queue behind any open reader, with every later reader behind it. One that waited in vain
    stays pending, and has to be finished before the same table's next one.
    """
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
                sql.Identifier(parent), sql.Identifier(child), sql.SQL("finalize" if pending else "concurrently")
            )
        )


def drop(connection: psycopg.Connection) -> None:
    """Drop the learned tables that are no partition: detached ones, and those whose training was cut off."""
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
