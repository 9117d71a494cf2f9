"""Logs that age: writing the store of interactions again as partitions by time, as one table, or packed.

The work is in SQL (`sql/83_partitioning.sql`). This module runs its steps, each in a transaction of its own, and goes
on where an interrupted run stopped.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psycopg

from recdb.citus import is_distributed
from recdb.database import Database, connect, fetch_row, require_primary
from recdb.errors import InvalidInput, RecdbError
from recdb.faults import reach
from recdb.job.lock import watch_for_lost_client
from recdb.migrate import find_blocker, require_installed
from recdb.preconditions import check_owner
from recdb.progress import Report, silent

PERIODS = ("month", "week", "day")
STORE, REST = "interaction", "interaction_rest"
# How long a step tries to get a lock, or waits for older transactions, in seconds.
PATIENCE = 300.0
PAUSE = 0.25
# Noted changes that one transaction copies, and how few of them make it worth to stop the writers.
BLOCK, FEW = 10_000, 500


@dataclass(frozen=True)
class Partitioned:
    """The result of a run, or with `dry_run` of its plan."""

    every: str | None
    """The time that a partition holds; None for one table."""
    partitions: int
    rows: int
    """How many rows it copied; for a dry run, how many it would copy, as PostgreSQL estimates them."""
    bytes_before: int
    bytes_after: int
    seconds: float
    steps: Sequence[str]
    """A line for each thing that it did."""


@dataclass(frozen=True)
class State:
    """How the store is partitioned, and the table that is being written again."""

    every: str | None = None
    source: str | None = None
    target: str | None = None


def partition(
    database: Database,
    every: str | None,
    *,
    undo: bool = False,
    dry_run: bool = False,
    patience: float = PATIENCE,
    report: Report = silent,
) -> Partitioned:
    """Partition recdb's own interactions by `every`, pack the partitions that are due, or with `undo` join them.

    It goes on where an interrupted run stopped. `undo` takes back a run that has not ended.
    Raises RecdbError if something stands in the way, or if the store is in use for `patience` seconds at a time.
    """
    if undo == (every is not None):
        raise InvalidInput("give either a time for each partition, or --undo", "recdb partition --every month")
    if every is not None and every not in PERIODS:
        raise InvalidInput(f"'{every}' is no time that a partition can hold", f"use {', '.join(PERIODS)}")
    began = time.monotonic()
    with partition_lock(database) as connection:
        state = read_partitioning(connection)
        steps = plan(connection, state, every, undo=undo)
        before = store_bytes(connection)
        if dry_run:
            return summary(connection, estimated_rows(connection), before, began, [step.line for step in steps])
        rows = 0
        for step in steps:
            report(step.line)
            rows += step.run(connection, database, patience, report)
        return summary(connection, rows, before, began, [step.line for step in steps])


def age(connection: psycopg.Connection, database: Database, report: Report, *, pack: bool) -> list[str]:
    """Delete the interactions that config.retention does not keep, and with `pack` pack the partitions that are due.

    Returns a remark if the packing has to wait. The job calls it after a refresh, which has read all interactions.
    """
    deleted = 0
    while (more := fetch_row(connection, "select recdb.drop_aged_interactions()")[0]) > 0:
        deleted += more
        report(f"deleted {deleted:,} interactions or partitions that are older than config.retention")
    state = read_partitioning(connection)
    if not pack or state.every is None or state.source is not None:
        return []
    try:
        partition(database, state.every, patience=10, report=report)
    except RecdbError as error:
        return [f"partitions that have ended were not packed: {error}"]
    return []


@dataclass(frozen=True)
class Step:
    """One thing that a run does: write a table again, or take back the work of an interrupted run."""

    line: str
    source: str | None = None
    target: str | None = None
    resumed: bool = False

    def run(self, connection: psycopg.Connection, database: Database, patience: float, report: Report) -> int:
        """Do it, and return how many rows it copied."""
        if self.source is None or self.target is None:
            insist(connection, database, "select recdb.give_up_partitioning()", [], patience)
            return 0
        return write_again(connection, database, self, patience, report)


def plan(connection: psycopg.Connection, state: State, every: str | None, *, undo: bool) -> list[Step]:
    """Plan the steps; raise RecdbError if something stands in the way."""
    steps = []
    wanted = "none" if undo else every
    unfinished = state.source is not None
    if unfinished and (state.source != STORE if undo else state.target != wanted):
        if not undo:
            command = "recdb partition --undo" if state.target == "none" else f"recdb partition --every {state.target}"
            raise RecdbError("another run of recdb partition has not ended", f"first: {command}")
        steps.append(Step(f"take back the writing of {state.source}"))
        unfinished = False
    if undo and unfinished and state.target != "none":
        return [Step("take back the partitioning that has not ended")]
    if unfinished:
        if state.source == STORE:
            require_nothing_in_the_way(connection)
        return [Step(f"go on writing {state.source} again", state.source, state.target, resumed=True)]
    if undo:
        if state.every is None:
            return []
        require_nothing_in_the_way(connection)
        return [*steps, Step(f"join the partitions by {state.every} into one table", STORE, "none")]
    if state.every is None:
        require_nothing_in_the_way(connection)
        parts = connection.execute("select count(*) filter (where p.own) from recdb.plan_parts(%s) p", [every])
        (own,) = parts.fetchone() or (0,)
        line = f"write recdb.interaction again as {own} partitions of a {every} each, and one for the rest"
        return [Step(line, STORE, every)]
    if state.every != every:
        raise RecdbError(f"the interactions are partitioned by {state.every}", "first: recdb partition --undo")
    (spans,) = fetch_row(connection, "select count(*) from recdb.rest_spans()")
    if spans:
        steps.append(Step(f"split {REST} into {spans} more partitions of a {every} each", REST, every))
    due = connection.execute(
        "select p.name from recdb.interaction_partitions() p "
        "where not p.packed and p.ends <= recdb.period_end(%s, recdb.period_start(%s, now()), -1) order by p.starts",
        [every, every],
    ).fetchall()
    return [*steps, *(Step(f"pack {name}", name, every) for (name,) in due)]


def write_again(connection: psycopg.Connection, database: Database, step: Step, patience: float, report: Report) -> int:
    """Write a table again, while everybody reads and writes; return how many rows were copied."""
    assert step.source is not None and step.target is not None
    if not step.resumed:
        with refusing_what_is_there():
            insist(
                connection, database, "select recdb.begin_partitioning(%s, %s)", [step.source, step.target], patience
            )
    reach("changes noted")
    rows = 0
    while (copied := fetch_row(connection, "select recdb.copy_part()")[0]) is not None:
        rows += copied
        report(f"copied {rows:,} rows")
        reach("part copied")
    if step.target == "none":
        report("making indexes")
        connection.execute("select recdb.index_one_table()")
    reach("store copied")
    ready = carry(connection, FEW) and wait_for_snapshots(connection, patience, report)
    if step.source == STORE:
        # Others may have made something meanwhile.
        require_nothing_in_the_way(connection)
    if not (ready and swap(connection, database, patience)):
        report("the store was truncated: beginning again")
        insist(connection, database, "select recdb.give_up_partitioning()", [], patience)
        return write_again(connection, database, Step(step.line, step.source, step.target), patience, report)
    reach("stores swapped")
    return rows


def carry(connection: psycopg.Connection, few: int) -> bool:
    """Copy noted changes again until fewer than `few` came meanwhile; False if the store was truncated."""
    while True:
        (taken,) = fetch_row(connection, "select recdb.carry_changes(%s)", [BLOCK])
        if taken < 0:
            return False
        if taken <= few:
            return True


def wait_for_snapshots(connection: psycopg.Connection, patience: float, report: Report) -> bool:
    """Gather statistics, and wait until no transaction is left that cannot see the copied rows; carry changes."""
    connection.execute("vacuum (analyze) recdb.interaction_next")
    (copied_at,) = fetch_row(connection, "select clock_timestamp()")
    deadline = time.monotonic() + patience
    while (old := connection.execute("select recdb.old_snapshots(%s)", [copied_at]).fetchall()) != []:
        processes = ", ".join(str(pid) for (pid,) in old)
        if time.monotonic() > deadline:
            raise RecdbError(
                f"a transaction that began before the rows were copied is still open: process {processes}",
                "end it, and run this again: it goes on where it stopped",
            )
        report(f"waiting for an older transaction: process {processes}")
        time.sleep(PAUSE)
    return carry(connection, FEW)


def swap(connection: psycopg.Connection, database: Database, patience: float) -> bool:
    """Let the new table take the place of the old one; False if the store was truncated.

    A second session stops the writers, so that this one can copy the last changes and commit them before any reader
    sees the new table.
    """
    deadline = time.monotonic() + patience
    with connect(database, autocommit=True) as second:
        watch_for_lost_client(second)
        while True:
            if not carry(connection, FEW):
                return False
            # Not locked in time, or a reader is there all the time: let everybody go on, and try again.
            with suppress(psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected), second.transaction() as it:
                (locked,) = fetch_row(second, "select recdb.lock_briefly('recdb.interaction', 'exclusive')")
                if locked:
                    if not carry(connection, 0):
                        return False
                    reach("changes carried")
                    if fetch_row(second, "select recdb.swap_interactions()")[0]:
                        reach("swap made")
                        break
                raise psycopg.Rollback(it)
            if time.monotonic() > deadline:
                raise store_in_use(database, patience)
            time.sleep(PAUSE)
    return True


def insist(
    connection: psycopg.Connection, database: Database, query: str, arguments: Sequence[str], patience: float
) -> None:
    """Call a function until it returns true: it returns false while the store is in use."""
    deadline = time.monotonic() + patience
    while True:
        with connection.transaction() as it:
            if fetch_row(connection, query, list(arguments))[0]:
                return
            raise psycopg.Rollback(it)
        if time.monotonic() > deadline:
            raise store_in_use(database, patience)
        time.sleep(PAUSE)


def store_in_use(database: Database, patience: float) -> RecdbError:
    """Return the error that others use the store all the time."""
    return RecdbError(
        f"recdb.interaction has been in use by {find_blocker(database) or 'other transactions'} for {patience:.0f} s",
        "when that transaction has ended, run this again: it goes on where it stopped",
    )


@contextmanager
def refusing_what_is_there() -> Iterator[None]:
    """Turn the error that a table of this name is there into one that says so."""
    try:
        yield
    except psycopg.errors.DuplicateTable as error:
        raise RecdbError(
            f"a table is in the way that recdb did not make: {error.diag.message_primary}", "rename it, or drop it"
        ) from error


@contextmanager
def partition_lock(database: Database) -> Iterator[psycopg.Connection]:
    """Open a connection in autocommit that holds the lock of this command while the block runs."""
    with connect(database, autocommit=True) as connection:
        require_primary(connection)
        require_installed(connection)
        check_owner(connection)
        watch_for_lost_client(connection)
        # A run that was killed holds its lock until its server process notices.
        deadline = time.monotonic() + 15
        while not fetch_row(
            connection, "select pg_try_advisory_lock(s.job_lock # 6148914691236517205) from recdb.secret s"
        )[0]:
            if time.monotonic() > deadline:
                raise RecdbError("another recdb partition is running", "wait until it has ended")
            time.sleep(PAUSE)
        try:
            yield connection
        finally:
            with suppress(psycopg.Error):
                connection.execute("select pg_advisory_unlock_all()")


def read_partitioning(connection: psycopg.Connection) -> State:
    """Read how the store is partitioned."""
    row = connection.execute("select p.every, p.source, p.target from recdb.partitioning p").fetchone()
    return State(*row) if row else State()


def require_nothing_in_the_way(connection: psycopg.Connection) -> None:
    """Raise RecdbError if something depends on the table that would not go with it."""
    found = [name for (name,) in connection.execute("select recdb.partitioning_obstacles()").fetchall()]
    if is_distributed(connection, "interaction"):
        raise RecdbError(
            "Citus has spread recdb.interaction over its nodes: nothing was changed",
            "recdb distribute --undo; then: recdb partition",
        )
    if found:
        raise RecdbError(
            f"recdb.interaction has things that recdb cannot give the new table: {', '.join(found)}",
            "take it away, run this, and make it again",
        )


def store_bytes(connection: psycopg.Connection) -> int:
    """Return the size of the store with its indexes."""
    (size,) = fetch_row(
        connection,
        "select pg_total_relation_size('recdb.interaction') + coalesce(sum(pg_total_relation_size(h.inhrelid)), 0)"
        "::bigint from pg_inherits h where h.inhparent = 'recdb.interaction'::regclass",
    )
    return int(size)


def estimated_rows(connection: psycopg.Connection) -> int:
    """Return how many rows the store has, as PostgreSQL estimates it."""
    (rows,) = fetch_row(connection, "select recdb.count_stored()")
    return int(rows)


def summary(connection: psycopg.Connection, rows: int, before: int, began: float, steps: Sequence[str]) -> Partitioned:
    """Sum up a run."""
    (partitions,) = fetch_row(connection, "select count(*) from recdb.interaction_partitions()")
    seconds = time.monotonic() - began
    every = read_partitioning(connection).every
    return Partitioned(every, partitions, rows, before, store_bytes(connection), seconds, steps)
