"""Four cells that share one item model, beside one database with everybody: recall, and CPU a call.

    .venv/bin/python benchmarks/cells/run.py DATA

DATA is a data set's folder, as benchmarks/quality/run.py describes it. The script starts six servers: one with all
users, one for each of the four cells, and one that learns. The users are divided among the cells by a hash of their
ids. The learning server gathers the users of all cells and trains, and the cells take its items. Every known user of
the test file gets a list of 20, from the one server and from the user's cell. CPU is that of the backends that answer,
from /proc, so the script runs on Linux only. It prints JSON, and writes it into benchmarks/cells/results/.
"""

import argparse
import gc
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from recdb import job, migrate
from recdb.data.load import load
from recdb.database import Database, connect
from recdb.embedded import start_embedded, stop_embedded
from recdb.evaluate.plan import Kinds
from recdb.evaluate.reading import read_test
from recdb.evaluate.run import set_kinds
from recdb.job.gather import gather

RESULTS = Path(__file__).parent / "results"
CELLS = ("cell-1", "cell-2", "cell-3", "cell-4")
K = 20
ROUNDS = 3
WARM_UP = 300


def cell_of(user_id: str) -> str:
    """Return a user's cell, as docs/cells.md does."""
    return max(CELLS, key=lambda name: hashlib.sha256(f"{name}/{user_id}".encode()).digest())


@dataclass(frozen=True)
class Answers:
    """The lists of some users, and the CPU that they took."""

    lists: Mapping[str, Sequence[str]]
    cpu: float
    """Seconds."""


@contextmanager
def server(folder: Path) -> Iterator[Database]:
    """Run a server with recdb's tables."""
    try:
        database = Database(start_embedded(folder, stop=True), "benchmark")
        migrate.upgrade(database)
        yield database
    finally:
        stop_embedded(folder)


def fill(database: Database, meta: Mapping[str, Any], train: Path, folder: Path, cell: str | None) -> None:
    """Load the training file, or the part of it whose users are in a cell."""
    with connect(database, autocommit=True) as connection:
        set_kinds(connection, Kinds(meta["weights"], None if meta["hides"] == "all" else meta["hides"]))
    load(database, str(train))
    if cell is not None:
        with connect(database, autocommit=True) as connection:
            users = [user for (user,) in connection.execute("select distinct user_id from recdb.interaction")]
            others = [user for user in users if cell_of(user) != cell]
            connection.execute("delete from recdb.interaction where user_id = any (%s)", [others])
            connection.execute("vacuum full recdb.interaction")


def cpu_seconds(pid: int) -> float:
    """Return the CPU that a process has used, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ask(database: Database, users: Sequence[str]) -> Answers:
    """Ask for the list of each user, one after the other over one connection, as an application does."""
    with psycopg.connect(database.conninfo, autocommit=True) as connection:

        def recommend(user: str) -> list[str]:
            rows = connection.execute(
                "select item_id from recdb.recommend(%s::text, %s::bigint)", [user, K], prepare=True
            )
            return [item for (item,) in rows]

        for user in users[:WARM_UP]:
            recommend(user)
        before = cpu_seconds(connection.info.backend_pid)
        lists = {user: recommend(user) for user in users}
        return Answers(lists, cpu_seconds(connection.info.backend_pid) - before)


def recall(lists: Mapping[str, Sequence[str]], relevant: Mapping[str, set[str]]) -> float:
    """Return recall@20, the mean over the users."""
    return sum(len(relevant[user] & set(items)) / len(relevant[user]) for user, items in lists.items()) / len(lists)


def together(parts: Sequence[Answers]) -> Answers:
    """Put the answers of the cells together."""
    return Answers(
        {user: items for part in parts for user, items in part.lists.items()}, sum(part.cpu for part in parts)
    )


def measure(folder: Path, servers: Path) -> dict[str, Any]:
    """Run everything, and return the figures."""
    meta = json.loads((folder / "meta.json").read_text())
    relevant = read_test(str(folder / "test.csv.gz"))
    with ExitStack() as stack:
        whole, learner, *cells = [stack.enter_context(server(servers / name)) for name in ("whole", "learner", *CELLS)]
        fill(whole, meta, folder / "train.csv.gz", servers, None)
        for name, cell in zip(CELLS, cells, strict=True):
            fill(cell, meta, folder / "train.csv.gz", servers, name)
        with connect(learner, autocommit=True) as connection:
            set_kinds(connection, Kinds(meta["weights"], None if meta["hides"] == "all" else meta["hides"]))
        job.run(whole, full=True)
        for cell in cells:
            with connect(cell, autocommit=True) as connection:
                connection.execute("call recdb.refresh()")
        gathered = gather(learner, cells, users=10**9)
        job.run(learner, full=True)
        seconds = [job.run(cell, full=True, model_from=learner).seconds for cell in cells]
        with connect(whole) as connection:
            known = {user for (user,) in connection.execute("select user_id from recdb.user_key")}
        users = sorted(user for user in relevant if user in known)
        shares = [[user for user in users if cell_of(user) == name] for name in CELLS]
        gc.disable()
        one, four = [], []
        for _ in range(ROUNDS):
            one.append(ask(whole, users))
            four.append(together([ask(cell, share) for cell, share in zip(cells, shares, strict=True)]))
        own = own_models(cells, shares, relevant)
    figures = [round(recall(part[0].lists, relevant), 4) for part in (one, four)]
    cpu = [[round(1000 * answers.cpu / len(users), 3) for answers in part] for part in (one, four)]
    best = [min(each) for each in cpu]
    return {
        "data": folder.name,
        "users": len(users),
        "users of the cells": [len(share) for share in shares],
        "gathered": sum(each.interactions for each in gathered or []),
        "recall@20": {"one database": figures[0], "four cells, one item model": figures[1], "four cells alone": own},
        "share of the recall": round(figures[1] / figures[0], 4),
        "cpu ms a call": {"one database": cpu[0], "four cells": cpu[1]},
        "cpu against one database": round(best[1] / best[0], 4),
        "seconds to take the items": [round(each, 1) for each in seconds],
    }


def own_models(cells: Sequence[Database], shares: Sequence[Sequence[str]], relevant: Mapping[str, set[str]]) -> float:
    """Return the recall of cells that each learn from their own users alone."""
    for cell in cells:
        job.run(cell, full=True, force=True)
    answers = [ask(cell, share) for cell, share in zip(cells, shares, strict=True)]
    return round(recall(together(answers).lists, relevant), 4)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=RESULTS, help="the folder of the results")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="recdb-cells-") as servers:
        Path(servers).chmod(0o755)
        result = json.dumps(measure(arguments.data, Path(servers)), indent=2)
    print(result)
    (arguments.out / f"{arguments.data.name}.json").write_text(result + "\n")


if __name__ == "__main__":
    main()
