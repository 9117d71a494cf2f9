"""Speed of steered lists: a plain call beside calls with a scenario, and with the caller's own candidates.

    python benchmarks/speed/steered.py --sizes 10000 100000

The calls alternate in one session: for each user one call of each kind, in random order. So what else the machine does
slows all of them alike. It does not quite: the longer a call, the likelier another process takes its core meanwhile.
So where the server is on this machine and Linux tells it, the time of its process on a core is there too (cpu).
run.py measures the same on its own servers.
"""

import argparse
import json
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from measure import summary, times
from server import describe_machine, recdb, run_server

from recdb.database import Database, fetch_row

HERE = Path(__file__).parent
ITEMS = {10_000: 5_000, 100_000: 20_000}
KINDS = {
    "plain": "",
    "scenario that does nothing": "scenario => 'nothing'",
    "freshness": "scenario => 'fresh'",
    "at most two of an owner, five of a topic": "scenario => 'caps'",
    "diversity": "scenario => 'diverse'",
    "rotation": "scenario => 'rotated'",
    "a tenth explored": "scenario => 'explored'",
    "everything on": "scenario => 'all'",
    "among 10,000": "among => (select array_agg('item-' || n) from generate_series(1, 10000) n)",
}
"""Each kind of call, and its further arguments."""
SCENARIOS = """
delete from recdb.scenario where name <> 'default';
insert into recdb.scenario (name) values ('nothing');
insert into recdb.scenario (name, freshness) values ('fresh', '3 days');
insert into recdb.scenario (name, max_per_owner, max_per_attribute, max_per_number) values ('caps', 2, 'topic', 5);
insert into recdb.scenario (name, diversity) values ('diverse', 0.3);
insert into recdb.scenario (name, rotation_rate) values ('rotated', 0.5);
insert into recdb.scenario (name, explore) values ('explored', 0.1);
insert into recdb.scenario (
    name, freshness, max_per_owner, max_per_attribute, max_per_number, diversity, rotation_rate, explore,
    filter, fallback, minimum_score)
values ('all', '3 days', 2, 'topic', 5, 0.3, 0.5, 0.1, '"exists($.topic)"', 'popular', 0.001);
insert into recdb.rule (scenario, condition, factor)
values ('all', '{"topic": "birds"}', 1.5), ('all', '{"topic": "climbing"}', 0.8);
"""


def measure_steered(database: Database, asked: Sequence[str], k: int, kinds: Sequence[str]) -> dict[str, Any]:
    """Measure the calls of some kinds for some users, in milliseconds; each user has seen a page an hour ago."""
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        connection.execute(SCENARIOS)
        (shown,) = fetch_row(connection, "select count(*) from recdb.impression")
        if not shown:
            connection.execute(
                "select recdb.impressions(u.id, array(select item_id from recdb.recommend(u.id, 20)), "
                "shown_at => now() - interval '1 hour') from unnest(%s::text[]) u(id)",
                [list(asked)],
            )
        connection.execute("call recdb.refresh()")
        connection.execute("vacuum analyze")
        calls = {kind: _call(connection, KINDS[kind], k) for kind in kinds}
        found: dict[str, list[float]] = {kind: [] for kind in kinds}
        spent: dict[str, list[float]] = {kind: [] for kind in kinds}
        process = Path(f"/proc/{connection.info.backend_pid}/schedstat")
        order = random.Random(0)
        for timed in (False, True):
            for user in asked:
                for kind in order.sample(list(kinds), len(kinds)):
                    before = _on_core(process)
                    milliseconds = times(calls[kind], [user])
                    if timed:
                        found[kind] += milliseconds
                        spent[kind].append(_on_core(process) - before)
        connection.execute("delete from recdb.scenario where name <> 'default'")
    medians = {kind: float(np.median(values)) for kind, values in found.items()}
    cores = {kind: float(np.median(values)) for kind, values in spent.items()}
    return {
        kind: summary(values)
        | {"times_plain": round(medians[kind] / medians["plain"], 2)}
        | ({"cpu_p50": round(cores[kind], 3), "cpu_times_plain": round(cores[kind] / cores["plain"], 2)}
           if cores["plain"] else {})
        for kind, values in found.items()
    }  # fmt: skip


def _on_core(process: Path) -> float:
    """Return the milliseconds that a process has spent on a core; 0 if this system does not tell."""
    try:
        return int(process.read_text().split()[0]) / 1e6
    except OSError:
        return 0.0


def _call(connection: psycopg.Connection, argument: str, k: int) -> Any:
    """Return a call as a prepared statement: a function of the user's id."""
    more = f", {argument}" if argument else ""
    statement = f"select item_id, score from recdb.recommend(%s::text, {k}{more})"
    return lambda user: connection.execute(statement, [user], prepare=True).fetchall()


def main() -> None:
    """Measure sizes on servers of their own, or a database that has generated data already."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="*", default=[10_000], metavar="USERS")
    parser.add_argument("--url", help="a database with `recdb generate` data and a model, instead of new servers")
    parser.add_argument("--calls", type=int, default=200, help="calls of each kind")
    parser.add_argument("--k", type=int, nargs="*", default=[20, 50], help="items a list")
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), help="of calls")
    parser.add_argument("--out", type=Path, help="a folder for the results, as JSON")
    given = parser.parse_args()
    if given.url:
        _report(Database(given.url, "benchmark"), given, None)
        return
    for users in given.sizes:
        with run_server(Path(tempfile.gettempdir()), None) as database:
            recdb(database, "init")
            recdb(
                database, "generate", "--users", str(users), "--items", str(ITEMS.get(users, max(50, users // 2))),
                "--count", str(users * 40),
            )  # fmt: skip
            recdb(database, "refresh", "--full", "--force")
            _report(database, given, users)


def _report(database: Database, given: argparse.Namespace, users: int | None) -> None:
    with psycopg.connect(database.conninfo) as connection:
        (stored,) = fetch_row(connection, "select count(*) from recdb.user_key")
        names = connection.execute(
            "select user_id from recdb.user_key where user_id like 'user-%%' order by hashtext(user_id) limit %s",
            [given.calls],
        ).fetchall()
        machine = describe_machine(connection)
    result: dict[str, Any] = {"users": users or stored, "machine": machine}
    for k in given.k:
        result[f"k={k}"] = measure_steered(database, [name for (name,) in names], k, given.kinds)
        print(f"{result['users']:,} users, {k} items a list")
        for kind, figures in result[f"k={k}"].items():
            cpu = f"; cpu {figures['cpu_p50']:7.3f} ms  x {figures['cpu_times_plain']}" if "cpu_p50" in figures else ""
            print(f"  {kind:42s} p50 {figures['p50']:7.3f} ms  x {figures['times_plain']}{cpu}")
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / f"steered-{result['users']}.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
