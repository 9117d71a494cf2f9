"""Measuring the ranking: train in a scratch database, ask the SQL function recommend() for every test user, score.

Production is never touched: the scratch database is an embedded server of its own that is deleted at the end, or,
given a server's URL, a new database on that server that is dropped at the end.
"""

import csv
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from scipy import sparse

from recdb import job, migrate
from recdb.copy import copy_out
from recdb.database import Database, connect, scratch_database
from recdb.errors import InvalidInput
from recdb.learn import Params, baselines
from recdb.learn.metrics import confidence_interval, list_metrics, user_metrics
from recdb.load import load, open_text
from recdb.train import Report, read_interactions
from recdb.tune import tune

CLIENTS = 2
SCRATCH_DIMENSION = 256
BASELINES = {
    "popularity": baselines.popularity,
    "user-kNN (exact cosine)": baselines.user_knn,
    "item-kNN (exact cosine)": baselines.item_knn,
}


@dataclass(frozen=True)
class Kinds:
    """What the kinds weigh and which of them hide an item; None leaves recdb's defaults."""

    weights: Mapping[str, float] | None = None
    hides: Sequence[str] | None = None
    """None: all."""


@dataclass(frozen=True)
class Scores:
    """The metrics of one way to rank, by name ('recall@20'), with 95 % bootstrap intervals of the means over users."""

    means: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """What `recdb evaluate` found."""

    ours: Scores
    baselines: Mapping[str, Scores]
    users: int
    """Test users that occur in training."""
    unknown_users: int
    """Test users that do not; they are not scored."""
    params: Params
    train_seconds: float
    latency_ms: Mapping[str, float]
    tuning: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the evaluation as one JSON object; our metrics stand at its top level."""
        return {
            **{name: round(value, 6) for name, value in self.ours.means.items()},
            "intervals": {name: [round(low, 6), round(high, 6)] for name, (low, high) in self.ours.intervals.items()},
            "baselines": {
                name: {metric: round(value, 6) for metric, value in scores.means.items()}
                for name, scores in self.baselines.items()
            },
            "users": self.users,
            "unknown_users": self.unknown_users,
            "params": self.params.to_json(),
            "train_seconds": round(self.train_seconds, 2),
            "latency_ms": {name: round(value, 3) for name, value in self.latency_ms.items()},
            "tuning": dict(self.tuning),
        }


@dataclass(frozen=True)
class Answers:
    """The lists that recommend() gave, and how long each call took."""

    lists: list[list[str]]
    milliseconds: NDArray[np.float64]


def evaluate_files(
    train: str,
    test: str,
    *,
    kinds: Kinds = Kinds(),
    ks: Sequence[int] = (20,),
    params: Params | None = None,
    tune_seconds: float | None = None,
    url: str | None = None,
    report: Report = lambda step: None,
) -> Evaluation:
    """Train on one CSV file and score on another, with `params`, or tuned for `tune_seconds` on the training file.

    Raises InvalidInput for files that cannot be read or a test file that has no user of the training file.
    """
    relevant = read_test(test)
    with scratch_database(url) as database:
        migrate.upgrade(database, dimension=SCRATCH_DIMENSION)
        with connect(database) as connection:
            set_kinds(connection, kinds)
        report("loading")
        load(database, train, report=report)
        curve: Mapping[str, Any] = {}
        if tune_seconds is not None:
            found = tune(database, seconds=tune_seconds, report=report).tuning
            curve = found.to_json() if found else {}
        else:
            job.run(database, full=True, params=params, report=report)
        return replace(score(database, relevant, ks=ks, report=report), tuning=curve)


def set_kinds(connection: psycopg.Connection, kinds: Kinds) -> None:
    """Store weights and hiding kinds in the scratch database's interaction_kind."""
    if kinds.weights is not None:
        connection.execute("delete from recdb.interaction_kind")
        with connection.cursor() as cursor:
            cursor.executemany(
                "insert into recdb.interaction_kind (kind, weight) values (%s, %s)", list(kinds.weights.items())
            )
    if kinds.hides is not None:
        connection.execute("update recdb.interaction_kind set hides = kind = any (%s)", [list(kinds.hides)])
        connection.execute("update recdb.config set default_hides = false")
        unknown = connection.execute(
            "select k from unnest(%s::text[]) k where k not in (select kind from recdb.interaction_kind)",
            [list(kinds.hides)],
        ).fetchall()
        connection.execute(
            "insert into recdb.interaction_kind (kind, weight, hides) "
            "select k, (select default_weight from recdb.config), true from unnest(%s::text[]) k",
            [[kind for (kind,) in unknown]],
        )


def read_test(path: str) -> dict[str, set[str]]:
    """Read a test file's relevant items by user; of its columns only user_id and item_id matter."""
    relevant: dict[str, set[str]] = {}
    with open_text(path) as (stream, _):
        rows = csv.DictReader(stream)
        if not {"user_id", "item_id"} <= set(rows.fieldnames or ()):
            raise InvalidInput(f"{path} has no columns user_id and item_id", "its first line names the columns")
        for row in rows:
            relevant.setdefault(row["user_id"], set()).add(row["item_id"])
    return relevant


def score(
    database: Database,
    relevant: Mapping[str, set[str]],
    *,
    ks: Sequence[int],
    report: Report = lambda step: None,
) -> Evaluation:
    """Ask recommend() for every test user that the database knows, and score the lists and the baselines'."""
    with connect(database) as connection:
        user_keys: dict[str, int] = dict(connection.execute("select user_id, user_key from recdb.user_key").fetchall())
        item_keys: dict[str, int] = dict(connection.execute("select item_id, item_key from recdb.item_key").fetchall())
        row = connection.execute("select params, metrics from recdb.model where active").fetchone()
        assert row is not None
        params, metrics = Params.from_json(row[0]), row[1]
        weights = read_interactions(connection).matrix()
        hidden = read_hidden(connection, weights.shape)
    users = sorted((user for user in relevant if user in user_keys), key=user_keys.__getitem__)
    if not users:
        raise InvalidInput("no test user occurs in the training data", "are both files of the same id space?")
    deepest = max(ks)
    report(f"asking recommend() for {len(users):,} users")
    answers = ask(database, users, deepest)

    truth = Truth(users, [relevant[user] for user in users], item_keys)
    lists = np.full((len(users), deepest), -1, dtype=np.int64)
    for row_number, answer in enumerate(answers.lists):
        lists[row_number, : len(answer)] = [item_keys.get(item, -1) for item in answer]
    popularity = np.bincount(weights.indices, minlength=weights.shape[1])
    ours = score_lists(lists, truth, popularity, weights.shape[0] - 1, ks, intervals=True)

    others = {}
    numbers = np.array([user_keys[user] for user in users])
    for name, make in BASELINES.items():
        report(f"baseline {name}")
        blocks = list(baselines.top_lists(make(weights), numbers, hidden, deepest))
        others[name] = score_lists(np.concatenate(blocks), truth, popularity, weights.shape[0] - 1, ks)
    p50, p95, p99 = np.percentile(answers.milliseconds, [50, 95, 99])
    return Evaluation(
        ours=ours,
        baselines=others,
        users=len(users),
        unknown_users=len(relevant) - len(users),
        params=params,
        train_seconds=metrics["train_seconds"],
        latency_ms={"p50": float(p50), "p95": float(p95), "p99": float(p99)},
    )


class Truth:
    """The relevant items of the scored users."""

    def __init__(self, users: Sequence[str], relevant: Sequence[set[str]], item_keys: Mapping[str, int]) -> None:
        self.counts = np.array([len(items) for items in relevant])
        width = max(item_keys.values(), default=0) + 1
        pairs = [(row, item_keys[item]) for row, items in enumerate(relevant) for item in items if item in item_keys]
        rows, columns = (np.array(pairs, dtype=np.int64).reshape(-1, 2)).T
        self._pairs = np.sort(rows * width + columns)
        self._width = width
        self.users = users

    def hits(self, lists: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell which places of the lists (users, k) of item numbers, -1 for none, are relevant."""
        codes = np.arange(len(lists))[:, None] * self._width + lists
        return np.isin(codes, self._pairs) & (lists >= 0)


def score_lists(
    lists: NDArray[np.int64],
    truth: Truth,
    popularity: NDArray[np.integer],
    users: int,
    ks: Sequence[int],
    *,
    intervals: bool = False,
) -> Scores:
    """Score lists (users, k) of item numbers at every k."""
    hits = truth.hits(lists)
    means: dict[str, float] = {}
    bounds: dict[str, tuple[float, float]] = {}
    for k in ks:
        for name, values in user_metrics(hits, truth.counts, k).items():
            means[name] = float(values.mean())
            if intervals:
                bounds[name] = confidence_interval(values)
        means |= list_metrics(lists, popularity, users, k)
    return Scores(means, bounds)


def read_hidden(connection: psycopg.Connection, shape: tuple[int, int]) -> sparse.csr_array:
    """Read which items are hidden from which users, as a sparse matrix of ones."""
    columns = copy_out(
        connection,
        "select distinct u.user_key, t.item_key from recdb.interactions i "
        "join recdb.user_key u on u.user_id = i.user_id join recdb.item_key t on t.item_id = i.item_id "
        "left join recdb.interaction_kind k on k.kind = i.kind "
        "where coalesce(k.hides, (select default_hides from recdb.config))",
        [("users", np.int32), ("items", np.int32)],
    )
    ones = np.ones(len(columns["users"]), dtype=np.float32)
    return sparse.csr_array((ones, (columns["users"], columns["items"])), shape=shape)


def ask(database: Database, users: Sequence[str], k: int) -> Answers:
    """Call recommend() for each user over CLIENTS connections, each with its statement prepared."""

    def ask_some(part: Sequence[str]) -> Iterator[tuple[list[str], float]]:
        with connect(database, autocommit=True) as connection:
            for user in part:
                began = time.perf_counter()
                rows = connection.execute(
                    "select item_id from recdb.recommend(%s::text, %s::bigint)", [user, k], prepare=True
                ).fetchall()
                yield [item for (item,) in rows], (time.perf_counter() - began) * 1000

    parts = [users[start::CLIENTS] for start in range(CLIENTS)]
    with ThreadPoolExecutor(CLIENTS) as pool:
        answered = list(pool.map(lambda part: list(ask_some(part)), parts))
    lists: list[list[str]] = [[] for _ in users]
    times = np.zeros(len(users))
    for start, part in enumerate(answered):
        for position, (answer, milliseconds) in enumerate(part):
            lists[start + position * CLIENTS] = answer
            times[start + position * CLIENTS] = milliseconds
    return Answers(lists, times)
