"""Steps of the job on a server that has no shared memory for parallel workers."""

from collections.abc import Callable
from typing import TypeVar

import psycopg

from recdb.progress import Report

Result = TypeVar("Result")


def lacks_memory(error: psycopg.Error) -> bool:
    """Tell whether parallel workers may be the reason of an error.

    PostgreSQL reports 53100 (no space) or 53200 (no memory) if a shared memory segment cannot grow, and a class 58
    error, of the system, if it cannot make one. Limits that somebody set, such as temp_file_limit, are no such errors.
    """
    state = error.sqlstate or ""
    return state in ("53100", "53200") or state.startswith("58")


def was_killed(connection: psycopg.Connection, error: psycopg.Error) -> bool:
    """Tell whether a connection was lost without a word of the server, or in its crash.

    A system that has no memory left kills a process of the server, and PostgreSQL ends all others.
    """
    return connection.closed and (error.sqlstate or "57P02") == "57P02"


def sparing(connection: psycopg.Connection, step: Callable[[], Result], report: Report) -> Result:
    """Run a step; if the server has no memory for it, run it again without parallel workers. Needs autocommit."""
    try:
        return step()
    except psycopg.Error as error:
        if not lacks_memory(error):
            raise
        report(f"the server has no memory for parallel workers: going on without them ({error.diag.message_primary})")
        for setting in ("max_parallel_workers_per_gather", "max_parallel_maintenance_workers"):
            connection.execute(f"set {setting} = 0")
        return step()
