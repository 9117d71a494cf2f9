"""Rebuilding the weighted interactions from all interactions."""

import psycopg

from recdb.progress import Report


def rebuild(connection: psycopg.Connection, report: Report, *, force: bool = False) -> None:
    """Build the weighted interactions from scratch, and vacuum them; needs autocommit.

    Raises psycopg's InsufficientPrivilege if row-level security may hide rows, and ObjectNotInPrerequisiteState if most
    of the weighted interactions would be lost. With `force` it goes on in both cases.
    """
    report("weighting interactions")
    connection.execute("select recdb.rebuild(force => %s)", [force])
    vacuum(connection)


def vacuum(connection: psycopg.Connection) -> None:
    """Vacuum and analyse the tables that a rebuild wrote, and those that it read; needs autocommit."""
    # Index-only scans of the neighbours' items need the visibility map.
    connection.execute(
        "vacuum (analyze) recdb.user_item_settled, recdb.item_popularity, recdb.user_key, recdb.item_key, "
        "recdb.user_item_recent, recdb.recent_user, recdb.interaction, recdb.interaction_kind, recdb.config"
    )
