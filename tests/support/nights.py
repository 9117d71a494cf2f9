"""Bad nights: a command that dies at a named point, and what a healthy installation looks like afterwards."""

import os
import signal
import subprocess
import sys
from typing import Any

import psycopg
from support.data import column
from support.waiting import until

from recdb.database import Database
from recdb.faults import VARIABLE


def die_at(point: str, database: Database, *arguments: str) -> None:
    """Run a command of recdb that dies at a point, and wait until the server has noticed."""
    command = [sys.executable, "-m", "recdb.cli", *arguments, "--url", database.conninfo]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, VARIABLE: point},
    )
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr
    with psycopg.connect(database.conninfo, autocommit=True) as watcher:
        until(lambda: not backends(watcher))


def backends(connection: psycopg.Connection) -> list[int]:
    """The server processes of recdb's commands in this database."""
    return column(
        connection.execute(
            "select pid from pg_stat_activity where datname = current_database() and application_name = 'recdb'"
        )
    )


def last_runs(connection: psycopg.Connection) -> dict[str, str]:
    """The state of the last run of each kind."""
    return dict(connection.execute("select kind, state from recdb.last_runs").fetchall())


def remains(connection: psycopg.Connection) -> dict[str, list[Any]]:
    """What a bad night may leave behind, by what it is; empty for a healthy installation."""
    queries = {
        "tables of no version": """
            select c.relname from pg_class c
            where c.relnamespace = 'recdb'::regnamespace and c.relkind in ('r', 'm')
              and c.relname ~ '^(user_vector|item_vector|item_neighbor)_[0-9]+$'
              and not (c.relispartition and exists (
                  select from recdb.model m where m.state = 'ready' and c.relname ~ ('_' || m.model_id || '$')))""",
        "pending detaches": "select inhrelid::regclass::text from pg_inherits where inhdetachpending",
        "unfinished versions": "select label from recdb.model where state = 'training'",
        "running runs": "select run_id from recdb.refresh_log where state = 'running'",
        "invalid indexes": "select indexrelid::regclass::text from pg_index where not indisvalid",
        "unpopulated views": "select matviewname from pg_matviews where schemaname = 'recdb' and not ispopulated",
        "advisory locks": """
            select pid from pg_locks where locktype = 'advisory'
              and database = (select oid from pg_database where datname = current_database())""",
        "half-lives to restore": "select run_id from recdb.refresh_log where half_life_before is not null",
        "temporary tables": "select relname from pg_class where relpersistence = 't'",
    }
    found = {name: column(connection.execute(query)) for name, query in queries.items()}
    return {name: rows for name, rows in found.items() if rows}
