"""Wait for a condition without guessing how long it takes."""

import time
from collections.abc import Callable

import psycopg


def until(condition: Callable[[], object], *, seconds: float = 60) -> None:
    """Check `condition` again and again until it holds; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def waits_for_a_lock(db: psycopg.Connection, application: str = "recdb") -> bool:
    """Tell whether a backend of this application waits for a lock in this database."""
    row = db.execute(
        "select exists (select from pg_stat_activity where datname = current_database() "
        "and application_name = %s and wait_event_type = 'Lock')",
        [application],
    ).fetchone()
    return bool(row and row[0])
