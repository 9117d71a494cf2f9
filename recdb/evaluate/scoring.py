"""Calls recommend() for every test user, and scores the lists beside those of the baselines."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recdb.arrays.weighted import read_interactions
from recdb.database import Database, connect, fetch_row
from recdb.errors import InvalidInput
from recdb.evaluate.plan import Evaluation, Stopwatch
from recdb.evaluate.reading import read_eligibility
from recdb.latency import Latency, recommend_with, timed
from recdb.learn import Params
from recdb.offline import baselines
from recdb.offline.baselines import Eligibility
from recdb.offline.metrics import Truth, score_lists
from recdb.progress import Report

CLIENTS = 2
BASELINE_USERS = 30_000
"""The baselines are scored on this many of the test users, drawn at random, if there are more."""


@dataclass(frozen=True)
class Answers:
    """The lists that recommend() returned, user by user, and how long each call took."""

    lists: list[list[str]]
    milliseconds: list[float]


def score(
    database: Database, relevant: Mapping[str, set[str]], ks: Sequence[int], stopwatch: Stopwatch, report: Report
) -> Evaluation:
    """Call recommend() for every test user that the database knows; score its lists and those of the baselines."""
    with connect(database) as connection:
        user_keys: dict[str, int] = dict(connection.execute("select user_id, user_key from recdb.user_key").fetchall())
        item_keys: dict[str, int] = dict(connection.execute("select item_id, item_key from recdb.item_key").fetchall())
        params, metrics = fetch_row(connection, "select params, metrics from recdb.model where active")
        weights = read_interactions(connection).matrix()
        weights.resize(max(user_keys.values()) + 1, max(item_keys.values()) + 1)
        eligibility = read_eligibility(connection, weights.shape)
    users = sorted((user for user in relevant if user in user_keys), key=user_keys.__getitem__)
    if not users:
        raise InvalidInput("no test user occurs in the training data", "are both files of the same id space?")
    deepest = max(ks)
    report(f"calling recommend() for {len(users):,} users")
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
    for name, lists in baseline_lists(weights, numbers, eligibility, deepest, report):
        scores = score_lists(lists, truth, popularity, len(user_keys), ks)
        others[name] = scores if len(some) == len(users) else scores.without("coverage")
    stopwatch.lap("baselines")
    return Evaluation(
        ours=ours,
        baselines=others,
        users=len(users),
        unknown_users=len(relevant) - len(users),
        baseline_users=len(some),
        params=Params.of_version(params),
        train_seconds=metrics["train_seconds"],
        latency=Latency.of(answers.milliseconds),
        seconds=stopwatch.seconds,
    )


def sample(users: Sequence[str], most: int) -> Sequence[str]:
    """Return the users; if there are more than `most`, that many of them at random, the same in every run."""
    if len(users) <= most:
        return users
    return [users[place] for place in np.sort(np.random.default_rng(0).choice(len(users), most, replace=False))]


def baseline_lists(
    weights: sparse.csr_array, users: NDArray[np.int64], eligibility: Eligibility, k: int, report: Report
) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Yield each baseline's name and its lists (users, k) of item numbers."""
    report("baseline popularity")
    yield "popularity", baselines.popularity(weights, users, eligibility, k)
    for name, make in (("user-kNN", baselines.user_knn), ("item-kNN", baselines.item_knn)):
        report(f"baseline {name}")
        yield f"{name} (exact cosine)", baselines.top_lists(make(weights), users, eligibility, k)


def ask(database: Database, users: Sequence[str], k: int) -> Answers:
    """Call recommend() for each user over CLIENTS connections, each with its own prepared statement."""
    interrupted = threading.Event()

    def ask_some(part: Sequence[str]) -> list[tuple[list[str], float]]:
        with connect(database, autocommit=True) as connection:
            pending = takewhile(lambda _: not interrupted.is_set(), part)
            answered = timed(recommend_with(connection, k=k), pending)
            return [([item for item, _ in rows], milliseconds) for rows, milliseconds in answered]

    parts = [users[start::CLIENTS] for start in range(CLIENTS)]
    with ThreadPoolExecutor(CLIENTS) as pool:
        try:
            answered = list(pool.map(ask_some, parts))
        except BaseException:
            interrupted.set()
            raise
    lists: list[list[str]] = [[] for _ in users]
    times = [0.0] * len(users)
    for start, part in enumerate(answered):
        for position, (answer, milliseconds) in enumerate(part):
            lists[start + position * CLIENTS] = answer
            times[start + position * CLIENTS] = milliseconds
    return Answers(lists, times)
