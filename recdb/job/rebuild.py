"""Rebuilding the weighted interactions from all interactions."""

import psycopg

from recdb.database import Database
from recdb.faults import reach
from recdb.job.memory import sparing
from recdb.job.trace import traced
from recdb.progress import Report


def rebuild(connection: psycopg.Connection, database: Database, report: Report, *, force: bool = False) -> None:
    """Build the weighted interactions from scratch, and vacuum them; needs autocommit. The log has a trace of it.

    Raises psycopg's InsufficientPrivilege if row-level security may hide rows, and ObjectNotInPrerequisiteState if most
    of the weighted interactions would be lost. With `force` it goes on in both cases.
    """
    report("weighting interactions")
    with traced(connection, database, "rebuild"):
        reach("rebuild begun")
        statement = "select recdb.rebuild(force => %s)"
        sparing(connection, lambda: connection.execute(statement, [force]), report)
    vacuum(connection)
    reach("rebuilt")


def restore_half_life(connection: psycopg.Connection, report: Report) -> None:
    """Set the half-life again that a tuning changed before it was killed, and weigh the interactions by it.

    Needs autocommit and the job's lock.
    """
    left = connection.execute(
        "select half_life_before ->> 'half_life' from recdb.refresh_log "
        "where half_life_before is not null and state <> 'running' order by run_id limit 1"
    ).fetchone()
    if left is None:
        return
    report("restoring the half-life that an interrupted tuning changed")
    with connection.transaction():
        connection.execute("update recdb.config set half_life = %s::interval", [left[0]])
        connection.execute("update recdb.refresh_log set half_life_before = null where half_life_before is not null")
        connection.execute("select recdb.rebuild()")
    vacuum(connection)


def vacuum(connection: psycopg.Connection) -> None:
    """Vacuum and analyse the tables that a rebuild wrote, and those that it read; needs autocommit."""
    # Index-only scans of the neighbours' items need the visibility map. Truncation makes readers of a standby wait.
    connection.execute(
        "vacuum (analyze, truncate off) recdb.user_item_settled, recdb.item_popularity, recdb.user_key, "
        "recdb.item_key, recdb.user_item_recent, recdb.recent_user, recdb.interaction, recdb.interaction_kind, "
        "recdb.config"
    )
