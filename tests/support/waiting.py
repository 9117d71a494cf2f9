"""Waiting for something to become true, without guessing how long it takes."""

import time
from collections.abc import Callable

import psycopg


def until(condition: Callable[[], object], *, seconds: float = 60) -> None:
    """Ask again and again until `condition` holds; fail where it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def waits_for_a_lock(db: psycopg.Connection, application: str = "recdb") -> bool:
    """Tell whether a backend of this application in this database waits for somebody's lock."""
    row = db.execute(
        "select exists (select from pg_stat_activity where datname = current_database() "
        "and application_name = %s and wait_event_type = 'Lock')",
        [application],
    ).fetchone()
    return bool(row and row[0])
