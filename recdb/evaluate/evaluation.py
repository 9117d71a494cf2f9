"""Measuring the ranking: train in a scratch database, ask the SQL function recommend() for every test user, score.

What to learn from and what is to be found come from two files, or from a database's own interactions (holdout.py).
Production is never touched: that database is only read, and the scratch database is an embedded server of its own that
is deleted at the end, or, given a server's URL, a new database on that server that is dropped at the end.
"""

import csv
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from scipy import sparse

from recdb import job, migrate
from recdb.arrays.copy import copy_out
from recdb.arrays.settings import read_settings
from recdb.arrays.weighted import read_interactions
from recdb.data.load import load, open_text
from recdb.database import Database, connect, scratch_database
from recdb.errors import InvalidInput
from recdb.evaluate.holdout import Split, copy_interactions, hold_out
from recdb.job.versions import active_params
from recdb.learn import Params
from recdb.migrate import require_installed
from recdb.offline import baselines
from recdb.offline.baselines import Offer
from recdb.offline.metrics import Scores, Truth, score_lists
from recdb.progress import Report, silent
from recdb.tuning.tune import tune

CLIENTS = 2
SCRATCH_DIMENSION = 256
BASELINE_USERS = 30_000
"""The baselines are scored on this many of the test users, drawn at random, where there are more."""


@dataclass(frozen=True)
class Kinds:
    """What the kinds weigh and which of them hide an item; None leaves what the database says."""

    weights: Mapping[str, float] | None = None
    hides: Sequence[str] | None = None


@dataclass(frozen=True)
class Evaluation:
    """What `recdb evaluate` found."""

    ours: Scores
    baselines: Mapping[str, Scores]
    users: int
    """Test users that occur in training."""
    unknown_users: int
    """Test users that do not; they are not scored."""
    baseline_users: int
    """Test users that the baselines are scored on."""
    params: Params
    train_seconds: float
    latency_ms: Mapping[str, float]
    seconds: Mapping[str, float]
    """What each step took."""
    tuning: Mapping[str, Any] = field(default_factory=dict)
    split: Split | None = None
    """How a database's own interactions were cut."""

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
            "baseline_users": self.baseline_users,
            "params": self.params.to_json(),
            "train_seconds": round(self.train_seconds, 2),
            "latency_ms": {name: round(value, 3) for name, value in self.latency_ms.items()},
            "seconds": {step: round(seconds, 2) for step, seconds in self.seconds.items()},
            "tuning": dict(self.tuning),
            **({"split": self.split.to_json()} if self.split else {}),
        }


@dataclass(frozen=True)
class Answers:
    """The lists that recommend() gave, and how long each call took."""

    lists: list[list[str]]
    milliseconds: NDArray[np.float64]


class Stopwatch:
    """How long the steps of a run take, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._began = time.monotonic()

    def lap(self, step: str) -> None:
        """End a step: what passed since the last one ended was this."""
        now = time.monotonic()
        self.seconds[step] = now - self._began
        self._began = now


@dataclass(frozen=True)
class Plan:
    """What to do with the training and the test part, however they were made."""

    ks: Sequence[int] = (20,)
    params: Mapping[str, Any] = field(default_factory=dict)
    """Hyper-parameters other than the active version's, or than the defaults where none is."""
    tune_seconds: float | None = None
    """How long to tune on the training part, if at all."""
    latency_ms: float | None = None
    """What the median of recommend() must stay within when tuning."""
    kinds: Kinds = Kinds()


def evaluate_files(
    train: str, test: str, plan: Plan, *, scratch_url: str | None = None, report: Report = silent
) -> Evaluation:
    """Train on one CSV file and score on another.

    Raises InvalidInput for files that cannot be read or a test file that has no user of the training file.
    """
    stopwatch = Stopwatch()
    params = Params.from_json(dict(plan.params))
    relevant = read_test(test)
    with scratch_database(scratch_url) as scratch:
        migrate.upgrade(scratch, dimension=SCRATCH_DIMENSION)
        with connect(scratch) as connection:
            set_kinds(connection, plan.kinds)
        report("loading")
        load(scratch, train, report=report)
        stopwatch.lap("load")
        return train_and_score(scratch, relevant, params, plan, stopwatch, report)


def evaluate_database(
    database: Database,
    plan: Plan,
    *,
    holdout: timedelta | None = None,
    scratch_url: str | None = None,
    report: Report = silent,
) -> Evaluation:
    """Train on one part of a database's own interactions and score on the other; the database is only read.

    `holdout` holds out the last days before the newest interaction, None the last share of each user's items. Raises
    InvalidInput where one of the parts would be empty.
    """
    stopwatch = Stopwatch()
    with connect(database, autocommit=True) as source:
        require_installed(source)
        params = Params.from_json(active_params(source).to_json() | dict(plan.params))
        width = read_settings(source).dimension
    with scratch_database(scratch_url) as scratch:
        migrate.upgrade(scratch, dimension=width)
        with connect(scratch) as connection:
            report("copying")
            with connect(database, autocommit=True) as source:
                copy_interactions(source, connection)
            set_kinds(connection, plan.kinds)
            relevant, split = hold_out(connection, holdout, report)
        stopwatch.lap("load")
        return replace(train_and_score(scratch, relevant, params, plan, stopwatch, report), split=split)


def train_and_score(
    scratch: Database,
    relevant: Mapping[str, set[str]],
    params: Params,
    plan: Plan,
    stopwatch: Stopwatch,
    report: Report,
) -> Evaluation:
    """Train, or tune, on what the scratch database holds, and score the lists of the users in `relevant`."""
    curve: Mapping[str, Any] = {}
    if plan.tune_seconds is not None:
        found = tune(scratch, seconds=plan.tune_seconds, latency_ms=plan.latency_ms, report=report).tuning
        curve = found.to_json() if found else {}
    else:
        job.run(scratch, full=True, params=params, report=report)
    stopwatch.lap("train")
    return replace(score(scratch, relevant, plan.ks, stopwatch, report), tuning=curve)


def set_kinds(connection: psycopg.Connection, kinds: Kinds) -> None:
    """Store weights and hiding kinds in the scratch database's interaction_kind."""
    if kinds.weights is not None:
        connection.execute("delete from recdb.interaction_kind where kind <> all (%s)", [list(kinds.weights)])
        with connection.cursor() as cursor:
            cursor.executemany(
                "insert into recdb.interaction_kind (kind, weight) values (%s, %s) "
                "on conflict (kind) do update set weight = excluded.weight",
                list(kinds.weights.items()),
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
    database: Database, relevant: Mapping[str, set[str]], ks: Sequence[int], stopwatch: Stopwatch, report: Report
) -> Evaluation:
    """Ask recommend() for every test user that the database knows, and score the lists and the baselines'."""
    with connect(database) as connection:
        user_keys: dict[str, int] = dict(connection.execute("select user_id, user_key from recdb.user_key").fetchall())
        item_keys: dict[str, int] = dict(connection.execute("select item_id, item_key from recdb.item_key").fetchall())
        row = connection.execute("select params, metrics from recdb.model where active").fetchone()
        assert row is not None
        params, metrics = Params.from_json(row[0]), row[1]
        weights = read_interactions(connection).matrix()
        weights.resize(max(user_keys.values()) + 1, max(item_keys.values()) + 1)
        offer = Offer(read_hidden(connection, weights.shape), read_unavailable(connection))
    users = sorted((user for user in relevant if user in user_keys), key=user_keys.__getitem__)
    if not users:
        raise InvalidInput("no test user occurs in the training data", "are both files of the same id space?")
    deepest = max(ks)
    report(f"asking recommend() for {len(users):,} users")
    answers = ask(database, users, deepest)
    stopwatch.lap("ask")

    lists = np.full((len(users), deepest), -1, dtype=np.int64)
    for row_number, answer in enumerate(answers.lists):
        lists[row_number, : len(answer)] = [item_keys.get(item, -1) for item in answer]
    popularity = np.bincount(weights.indices, minlength=weights.shape[1])
    truth = Truth([relevant[user] for user in users], item_keys)
    ours = score_lists(lists, truth, popularity, len(user_keys), ks, intervals=True)
    stopwatch.lap("score")

    some = sample(users, BASELINE_USERS)
    truth = Truth([relevant[user] for user in some], item_keys)
    numbers = np.array([user_keys[user] for user in some])
    others = {}
    for name, lists in baseline_lists(weights, numbers, offer, deepest, report):
        scores = score_lists(lists, truth, popularity, len(user_keys), ks)
        others[name] = scores if len(some) == len(users) else scores.without("coverage")
    stopwatch.lap("baselines")
    p50, p95, p99 = np.percentile(answers.milliseconds, [50, 95, 99])
    return Evaluation(
        ours=ours,
        baselines=others,
        users=len(users),
        unknown_users=len(relevant) - len(users),
        baseline_users=len(some),
        params=params,
        train_seconds=metrics["train_seconds"],
        latency_ms={"p50": float(p50), "p95": float(p95), "p99": float(p99)},
        seconds=stopwatch.seconds,
    )


def sample(users: Sequence[str], most: int) -> Sequence[str]:
    """Return the users, or `most` of them, drawn at random, the same at every run, where there are more."""
    if len(users) <= most:
        return users
    return [users[place] for place in np.sort(np.random.default_rng(0).choice(len(users), most, replace=False))]


def baseline_lists(
    weights: sparse.csr_array, users: NDArray[np.int64], offer: Offer, k: int, report: Report
) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Yield each baseline's name and its lists (users, k) of item numbers."""
    report("baseline popularity")
    yield "popularity", baselines.popularity(weights, users, offer, k)
    for name, make in (("user-kNN", baselines.user_knn), ("item-kNN", baselines.item_knn)):
        report(f"baseline {name}")
        yield f"{name} (exact cosine)", baselines.top_lists(make(weights), users, offer, k)


def read_hidden(connection: psycopg.Connection, shape: tuple[int, int]) -> sparse.csr_array:
    """Read which items a user may not get, what is hidden and what is the user's own, as a sparse matrix of ones."""
    columns = copy_out(
        connection,
        "select u.user_key, t.item_key from recdb.interactions i "
        "join recdb.user_key u on u.user_id = i.user_id join recdb.item_key t on t.item_id = i.item_id "
        "left join recdb.interaction_kind k on k.kind = i.kind "
        "where coalesce(k.hides, (select default_hides from recdb.config)) "
        "union select u.user_key, t.item_key from recdb.items i "
        "join recdb.user_key u on u.user_id = i.owner_id join recdb.item_key t on t.item_id = i.item_id",
        [("users", np.int32), ("items", np.int32)],
    )
    ones = np.ones(len(columns["users"]), dtype=np.float32)
    return sparse.csr_array((ones, (columns["users"], columns["items"])), shape=shape)


def read_unavailable(connection: psycopg.Connection) -> NDArray[np.int32]:
    """Read which items nobody may get."""
    return copy_out(
        connection,
        "select t.item_key from recdb.item_key t cross join recdb.config c left join recdb.items i "
        "on i.item_id = t.item_id where not coalesce(i.available, not c.listed_only)",
        [("items", np.int32)],
    )["items"]


def ask(database: Database, users: Sequence[str], k: int) -> Answers:
    """Call recommend() for each user over CLIENTS connections, each with its statement prepared."""
    interrupted = threading.Event()

    def ask_some(part: Sequence[str]) -> Iterator[tuple[list[str], float]]:
        with connect(database, autocommit=True) as connection:
            for user in part:
                if interrupted.is_set():
                    return
                began = time.perf_counter()
                rows = connection.execute(
                    "select item_id from recdb.recommend(%s::text, %s::bigint)", [user, k], prepare=True
                ).fetchall()
                yield [item for (item,) in rows], (time.perf_counter() - began) * 1000

    parts = [users[start::CLIENTS] for start in range(CLIENTS)]
    with ThreadPoolExecutor(CLIENTS) as pool:
        try:
            answered = list(pool.map(lambda part: list(ask_some(part)), parts))
        except BaseException:
            interrupted.set()
            raise
    lists: list[list[str]] = [[] for _ in users]
    times = np.zeros(len(users))
    for start, part in enumerate(answered):
        for position, (answer, milliseconds) in enumerate(part):
            lists[start + position * CLIENTS] = answer
            times[start + position * CLIENTS] = milliseconds
    return Answers(lists, times)
