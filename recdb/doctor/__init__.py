"""Checks of a live installation: each finds one kind of mistake, and names the statement or command that fixes it.

A check is a small function that queries the database and returns a Verdict, or None if it does not apply. Every
check runs in a read-only transaction of its own with a time limit, so that doctor works on a replica, changes
nothing and always ends.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import psycopg

from recdb.citus import lift_result_limit
from recdb.doctor import (
    attached,
    content,
    installation,
    memberships,
    nodes,
    oddities,
    privileges,
    recall,
    replication,
    serving,
    shown,
    storage,
)
from recdb.doctor.verdict import Check, State, Verdict
from recdb.schemas import DEFAULT_SCHEMA, in_schema, schema_of

SECONDS_A_CHECK = 60

SERVER_CHECKS: Mapping[str, Check] = {
    "postgresql": installation.check_server,
    "pgvector": installation.check_pgvector,
    "recdb": installation.check_revision,
}
INSTALLATION_CHECKS: Mapping[str, Check] = {
    "parts": attached.check_parts,
    "rows": attached.check_rows,
    "kinds": serving.check_kinds,
    "times": oddities.check_times,
    "shares": oddities.check_shares,
    "repeats": oddities.check_repeats,
    "ids": oddities.check_ids,
    "catalogue": oddities.check_catalogue,
    "embeddings": content.check_stored_embeddings,
    "half-life": oddities.check_half_life,
    "model": serving.check_model,
    "refresh": serving.check_refresh,
    "last run": serving.check_last_run,
    "user vectors": serving.check_vectors,
    "impressions": shown.check_impressions,
    "pages": shown.check_pages,
    "steering": shown.check_steering,
    "recall": recall.check_recall,
    "roles": installation.check_roles,
    "grants": installation.check_grants,
    "memberships": memberships.check_memberships,
    "callers": memberships.check_callers,
    "public": installation.check_public,
    "owner": privileges.check_role_of_owner,
    "schemas": privileges.check_schemas,
    "attached": attached.check_attached,
    "sources": attached.check_sources,
    "clock": attached.check_clock,
    "weights": attached.check_weights,
    "indexes": storage.check_indexes,
    "leftovers": storage.check_leftovers,
    "partitions": storage.check_partitions,
    "dead rows": storage.check_dead_rows,
    "statistics": storage.check_statistics,
    "autovacuum": storage.check_autovacuum,
    "transactions": storage.check_transactions,
    "shared_buffers": storage.check_shared_buffers,
    "index memory": storage.check_index_memory,
    "work_mem": storage.check_work_mem,
    "standby": replication.check_standby,
    "standbys": replication.check_standbys,
    "nodes": nodes.check_cluster_nodes,
    "shards": nodes.check_vector_shards,
    "searches": nodes.check_searches,
    "durability": nodes.check_durability,
    "writers": nodes.check_writers,
}


@dataclass(frozen=True)
class Finding:
    """The verdict of a check, with the check's name."""

    check: str
    state: State
    message: str
    fix: str | None = None

    def to_json(self) -> dict[str, str | None]:
        """Return the finding as `recdb doctor --json` prints it."""
        return {"check": self.check, "state": self.state, "message": self.message, "mend": self.fix}


def examine(connection: psycopg.Connection, seconds: int = SECONDS_A_CHECK) -> Iterator[Finding]:
    """Run the checks and yield their findings; the checks of recdb's own objects run only if recdb is installed.

    `connection` must be in autocommit. A check that takes longer than `seconds` is cancelled, with a warning.
    """
    usable = True
    for name, check in SERVER_CHECKS.items():
        finding = _run(connection, name, check, seconds)
        if finding:
            usable = usable and (finding.state == "ok" or (name == "pgvector" and finding.state == "warn"))
            yield finding
    if not usable:
        return
    lift_result_limit(connection)
    said = set[str]()
    standby = replication.is_standby(connection)
    for name, check in INSTALLATION_CHECKS.items():
        if standby and name in replication.ELSEWHERE:
            yield Finding(name, "ok", f"not checked on a standby: {replication.ELSEWHERE[name]}")
            continue
        finding = _run(connection, name, check, seconds)
        # A row that cannot be read fails each check that reads all rows: once is enough.
        if finding and not (finding.state == "fail" and any(finding.message in message for message in said)):
            yield finding
            said |= {finding.message} if finding.state == "fail" else set()


def _run(connection: psycopg.Connection, name: str, check: Check, seconds: int) -> Finding | None:
    try:
        with connection.transaction():
            connection.execute("set transaction read only")
            # A parallel query may find no shared memory, and a check takes no core from those who are served.
            connection.execute("set local max_parallel_workers_per_gather = 0")
            for setting in ("statement_timeout", "lock_timeout"):
                connection.execute("select set_config(%s, %s, true)", [setting, f"{seconds}s"])
            verdict = check(connection)
    except psycopg.errors.InsufficientPrivilege as error:
        message = f"this role lacks a privilege: {error.diag.message_primary}"
        hint = error.diag.message_hint or "run recdb doctor as the owner of schema recdb"
        verdict = Verdict("warn", message, hint)
    except psycopg.errors.DatabaseError as error:
        if nodes.AWAY.search(str(error)):
            return Finding(name, "warn", "not checked: a node that it asks does not answer", "see the check nodes")
        if not isinstance(error, (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable)):
            missing = isinstance(error, (psycopg.errors.UndefinedFunction, psycopg.errors.UndefinedTable))
            fix = "recdb init" if missing else error.diag.message_hint
            return Finding(name, "fail", error.diag.message_primary or str(error), fix)
        verdict = Verdict("warn", f"cancelled after {seconds} s", "run recdb doctor when the database is less busy")
    if verdict is None:
        return None
    schema = schema_of(connection) or DEFAULT_SCHEMA
    fix = in_schema(verdict.fix, schema) if verdict.fix else None
    if fix and name not in replication.HERE and replication.is_standby(connection):
        fix = f"on the primary: {fix}"
    return Finding(name, verdict.state, in_schema(verdict.message, schema), fix)
