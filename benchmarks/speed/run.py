"""Speed: recommend(), the job and the batches at several sizes, beside other ways to recommend.

    make bench SIZES="10000 100000"

Each size gets its own embedded server with generated data, and recdb's commands with their defaults. The figures of
each size go into a JSON file in results/; the table and the plots in README.md are made from all of these files.
"""

import argparse
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from measure import (
    K,
    batch,
    everyone,
    find_pgbench,
    latency,
    refresh_after,
    sizes_mb,
    summary,
    throughput,
    times,
)
from report import write_report
from rivals import nearest_items, rebuild_per_request
from server import copied, describe_machine, recdb, run, run_pgbouncer, run_server
from steered import KINDS, measure_steered

from recdb import job, migrate
from recdb.database import Database, fetch_row
from recdb.latency import recommend_with
from recdb.learn import Params

HERE = Path(__file__).parent
ITEMS = {10_000: 5_000, 100_000: 20_000, 1_000_000: 50_000}
INTERACTIONS_A_USER = 40
PROFILES = (1, 10, 40, 100, 1_000)
USERS_A_PROFILE = 20
SHARES = (0.001, 0.01, 0.1)
CLIENTS = (1, 2, 4, 8)
SETTINGS = (
    "10/10/20", "20/20/40", "40/20/80", "20/40/80", "40/40/40", "40/40/80", "80/40/80", "40/80/80", "100/100/200",
)  # fmt: skip
CURVE_USERS = 1_000
LARGEST_CURVE = 10_000
LARGEST_REBUILD = 100_000


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    calls: int
    seconds: float
    """Of each measurement of throughput."""
    clients: Sequence[int]
    settings: Sequence[str]
    """Of the curve: neighbours/item neighbours/profile limit."""


def say(line: str) -> None:
    """Print a line with the time."""
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


def measure_size(users: int, effort: Effort, scratch: Path | None, *, keep: bool) -> dict[str, Any]:
    """Measure one size on a server of its own."""
    items = ITEMS.get(users, max(50, users // 2))
    result: dict[str, Any] = {"users": users, "items": items, "interactions": users * INTERACTIONS_A_USER, "k": K}
    asked = [f"user-{number}" for number in random.Random(0).sample(range(1, users + 1), min(users, effort.calls))]
    with run_server(scratch, f"recdb-bench-{users}" if keep else None) as database:
        folder = Path(psycopg.conninfo.conninfo_to_dict(database.conninfo)["host"]).parent
        prepared = folder / "prepared.json"
        say(f"{users:,} users, {items:,} items, {result['interactions']:,} interactions")
        recdb(database, "init")
        if not prepared.exists():
            prepared.write_text(json.dumps(prepare(database, users, items)))
        result |= json.loads(prepared.read_text())
        with psycopg.connect(database.conninfo, autocommit=True) as connection:
            result["machine"] = describe_machine(connection)
            result["model"] = read_model(connection)
            say(f"{result['machine']}, {result['model']}")
            result["latency_ms"] = {"average": latency(database, asked)}
            for size, ids in profiles(items).items():
                result["latency_ms"][str(size)] = latency(
                    database, (ids * effort.calls)[: max(len(ids), effort.calls // 4)]
                )
            result["profile_items"] = mean_items(connection, asked)
            say(f"latency: {result['latency_ms']}")
            result |= measure_throughput(database, users, effort)
            result["recommend_batch"] = batch(database, asked[:500])
            result["recommend_all"] = everyone(database, users, folder)
            say(f"batches: {result['recommend_batch']}, {result['recommend_all']}")
            result["rivals_ms"] = measure_rivals(database, connection, asked, users)
            say(f"rivals: {result['rivals_ms']}")
        with copied(database) as copy:
            result["steered_ms"] = measure_steered(copy, asked[:200], K, list(KINDS))
            say(f"steered lists: {result['steered_ms']}")
        with copied(database) as copy:
            result["refresh"] = [refresh_after(copy, share, asked) for share in SHARES]
            say(f"refresh: {result['refresh']}")
            result["latency_after_refreshes_ms"] = latency(copy, asked)
        if users <= LARGEST_CURVE and effort.settings:
            result["curve"] = measure_curve(database, effort)
    return result


def prepare(database: Database, users: int, items: int) -> dict[str, Any]:
    """Load generated data, and train; return the time, memory and size of both."""
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        generated = recdb(
            database, "generate", "--users", str(users), "--items", str(items),
            "--count", str(users * INTERACTIONS_A_USER),
        )  # fmt: skip
        load = generated.to_json() | {"sizes_mb": sizes_mb(connection)}
        say(f"generated and loaded: {load}")
        make_profiles(connection, items)
        trained = recdb(database, "refresh", "--full", "--force")
        connection.execute("vacuum analyze")
        train = trained.to_json() | logged_seconds(connection) | {"sizes_mb": sizes_mb(connection)}
        say(f"trained: {train}")
    return {"load": load, "train": train}


def profiles(items: int) -> dict[int, list[str]]:
    """Return the ids of the users with profiles of exactly so many items, by the number of items."""
    sizes = sorted({min(size, items // 2) for size in PROFILES})
    return {size: [f"profile-{size}-{number}" for number in range(USERS_A_PROFILE)] for size in sizes}


def make_profiles(connection: psycopg.Connection, items: int) -> None:
    """Record interactions of the users that profiles() names; their items are drawn by popularity."""
    for size, users in profiles(items).items():
        connection.execute(
            """
            with popular as materialized (
                select item_id, count(*) as events from recdb.interaction group by item_id
            )
            insert into recdb.interaction (user_id, item_id, kind, created_at)
            select u.user_id, i.item_id, 'view', now() - random() * interval '90 days'
            from unnest(%(users)s::text[]) u(user_id)
            cross join lateral (
                select p.item_id
                from popular p
                order by power(random(), 1.0 / p.events) desc, u.user_id
                limit %(size)s
            ) i
            """,
            {"users": users, "size": size},
        )


def logged_seconds(connection: psycopg.Connection) -> dict[str, float]:
    """Read how long the last full refresh took to weight the interactions and to train."""
    rows = connection.execute(
        "select distinct on (kind) kind, extract(epoch from finished_at - started_at)::float8 "
        "from recdb.refresh_log where kind in ('rebuild', 'train') order by kind, run_id desc"
    ).fetchall()
    return {f"{kind}_seconds": round(seconds, 2) for kind, seconds in rows}


def read_model(connection: psycopg.Connection) -> dict[str, Any]:
    """Read the active version's hyper-parameters that determine the cost."""
    (params,) = fetch_row(connection, "select params from recdb.model where active")
    return {name: params[name] for name in ("neighbors", "item_neighbors", "dimension", "profile_limit", "learner")}


def mean_items(connection: psycopg.Connection, users: Sequence[str]) -> float:
    """Return the mean number of items in some users' profiles."""
    (mean,) = fetch_row(
        connection,
        "select count(*)::float8 / %s from recdb.user_item w join recdb.user_key u using (user_key) "
        "where u.user_id = any (%s)",
        [len(users), list(users)],
    )
    return round(mean, 1)


def measure_throughput(database: Database, users: int, effort: Effort) -> dict[str, Any]:
    """Measure calls per second, directly and through pgbouncer."""
    pgbench = find_pgbench()

    def call_rates(conninfo: str, protocol: str) -> list[dict[str, Any]]:
        return [throughput(pgbench, conninfo, users, each, effort.seconds, protocol) for each in effort.clients]

    result: dict[str, Any] = {"throughput": call_rates(database.conninfo, "prepared")}
    say(f"throughput: {result['throughput']}")
    with run_pgbouncer(database) as bouncer:
        if bouncer is None:
            say("pgbouncer is not installed, or cannot reach the server: left out")
            result["throughput_pgbouncer"] = None
        else:
            conninfo, protocol = bouncer
            result["throughput_pgbouncer"] = call_rates(conninfo, protocol)
            result["pgbouncer_protocol"] = protocol
            say(f"through pgbouncer ({protocol}): {result['throughput_pgbouncer']}")
    return result


def measure_rivals(
    database: Database, connection: psycopg.Connection, asked: Sequence[str], users: int
) -> dict[str, Any]:
    """Measure the other ways to recommend."""
    some = asked[:200]
    result: dict[str, Any] = {"nearest items by pgvector": nearest_items(connection, some)}
    command = [sys.executable, str(HERE / "rivals.py"), "--url", database.conninfo, "--users", ",".join(some)]
    service = run(command, OPENBLAS_NUM_THREADS="1")  # as implicit recommends: it has threads of its own
    result |= json.loads(service.output.splitlines()[-1])
    if users <= LARGEST_REBUILD:
        result["kNN rebuilt per request"] = rebuild_per_request(connection, asked[: 5 if users <= 10_000 else 1])
    return result


def measure_curve(database: Database, effort: Effort) -> list[dict[str, Any]]:
    """Measure ranking quality against latency: hold out the newest interactions, and train with each setting."""
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        connection.execute("create database curve")
    curve = Database(psycopg.conninfo.make_conninfo(database.conninfo, dbname="curve"), "benchmark")
    migrate.upgrade(curve)
    relevant = hold_out_newest(database, curve)
    chosen = random.Random(1).sample(sorted(relevant), min(CURVE_USERS, len(relevant)))
    points = []
    for setting in effort.settings:
        neighbors, item_neighbors, profile_limit = map(int, setting.split("/"))
        params = replace(Params(), neighbors=neighbors, item_neighbors=item_neighbors, profile_limit=profile_limit)
        job.run(curve, full=True, force=True, params=params)
        with psycopg.connect(curve.conninfo, autocommit=True) as connection:
            call = recommend_with(connection, k=K)
            lists = {user: [row[0] for row in call(user)] for user in chosen}
            milliseconds = times(call, chosen)
        ndcg = float(np.mean([ndcg_at_20(lists[user], relevant[user]) for user in chosen]))
        points.append({
            "neighbors": neighbors, "item_neighbors": item_neighbors, "profile_limit": profile_limit,
            "ndcg@20": round(ndcg, 5), "latency_ms": summary(milliseconds), "users": len(chosen),
        })  # fmt: skip
        say(f"curve: {points[-1]}")
    return points


def hold_out_newest(source: Database, target: Database) -> dict[str, set[str]]:
    """Copy all but the newest tenth of the generated interactions; return the items that are new to each user in it."""
    with psycopg.connect(source.conninfo) as connection, psycopg.connect(target.conninfo) as other:
        (cut_at,) = fetch_row(
            connection,
            "select percentile_disc(0.9) within group (order by created_at) from recdb.interaction "
            "where metadata ? 'generated'",
        )
        condition = psycopg.sql.SQL("metadata ? 'generated' and created_at {} {}")
        before = condition.format(psycopg.sql.SQL("<"), psycopg.sql.Literal(cut_at))
        copy_rows(connection, other, "user_id, item_id, kind, created_at", "interaction", before)
        catalogue = psycopg.sql.SQL("true")
        copy_rows(connection, other, "item_id, owner_id, published_at, attributes, title", "item", catalogue)
        rows = connection.execute(
            psycopg.sql.SQL(
                "select user_id, array_agg(distinct item_id) from (select user_id, item_id from recdb.interaction "
                "where {} except select user_id, item_id from recdb.interaction where {}) n "
                "where user_id in (select user_id from recdb.interaction where {}) group by user_id"
            ).format(condition.format(psycopg.sql.SQL(">="), psycopg.sql.Literal(cut_at)), before, before)
        ).fetchall()
    return {user: set(items) for user, items in rows}


def copy_rows(
    source: psycopg.Connection, target: psycopg.Connection, columns: str, table: str, condition: psycopg.sql.Composable
) -> None:
    """Copy rows of one of recdb's tables from one database into another."""
    reading = psycopg.sql.SQL(f"copy (select {columns} from recdb.{table} where {{}}) to stdout").format(condition)
    with (
        source.cursor().copy(reading) as read,
        target.cursor().copy(f"copy recdb.{table} ({columns}) from stdin") as write,
    ):
        for data in read:
            write.write(data)


def ndcg_at_20(answer: Sequence[str], relevant: set[str]) -> float:
    """Score a list: DCG with 1/log2(rank + 1) over the ideal DCG of min(20, relevant) items."""
    gains = 1 / np.log2(np.arange(2, 22))
    found = sum(gain for item, gain in zip(answer, gains, strict=False) if item in relevant)
    return float(found / gains[: len(relevant)].sum())


def main(arguments: Iterable[str] | None = None) -> None:
    """Measure every size, then rewrite the table and the plots."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="*", default=[10_000], metavar="USERS")
    parser.add_argument("--calls", type=int, default=1_000, help="calls of recommend() a figure")
    parser.add_argument("--seconds", type=float, default=5, help="length of each measurement of throughput")
    parser.add_argument("--clients", type=int, nargs="*", default=CLIENTS, help="of throughput")
    parser.add_argument("--settings", nargs="*", default=SETTINGS, help="of the curve: n/M/profile limit")
    parser.add_argument("--scratch", type=Path, help="where the server's folder is made, instead of the system's")
    parser.add_argument("--keep", action="store_true", help="the folder stays, and is measured again next time")
    parser.add_argument("--out", type=Path, default=HERE, help="the folder of README.md and results")
    given = parser.parse_args(arguments)
    results = given.out / "results"
    results.mkdir(parents=True, exist_ok=True)
    for users in given.sizes:
        began = time.monotonic()
        effort = Effort(given.calls, given.seconds, given.clients, given.settings)
        result = measure_size(users, effort, given.scratch, keep=given.keep)
        result["seconds"] = round(time.monotonic() - began)
        (results / f"{users}.json").write_text(json.dumps(result, indent=1) + "\n")
        say(f"{users:,} users took {result['seconds']:,} s")
    write_report(given.out)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"{error}\n{error.stderr}")
