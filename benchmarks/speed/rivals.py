"""Other ways to recommend, on the same server and data, for lists of the same length.

Run as a program, it is a Python service that holds its models in memory; its figures go to standard output as JSON.
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import psycopg
from measure import K, summary, times
from scipy import sparse

from recdb.arrays.copy import copy_out
from recdb.database import fetch_row
from recdb.distribution import install_command
from recdb.errors import RecdbError
from recdb.learn import Params

NEIGHBORS = 50
FACTORS = 128
ITERATIONS = 3
"""Few, because the latency of ALS does not depend on them, and its quality is not measured here."""
CHECKED = ", catalogue asked"


def rebuild_per_request(connection: psycopg.Connection, users: Sequence[str]) -> dict[str, Any]:
    """(a) Each request loads all interactions, builds the matrix and compares the user with all others."""

    def answer(user: str) -> list[str]:
        kinds = dict(connection.execute("select kind, weight from recdb.interaction_kind").fetchall())
        rows = connection.execute("select user_id, item_id, kind from recdb.interaction").fetchall()
        user_numbers: dict[str, int] = {}
        item_numbers: dict[str, int] = {}
        who = [user_numbers.setdefault(row[0], len(user_numbers)) for row in rows]
        what = [item_numbers.setdefault(row[1], len(item_numbers)) for row in rows]
        weights = sparse.csr_array(([kinds.get(row[2], 0.1) for row in rows], (who, what)))
        norms = np.sqrt(np.asarray((weights * weights).sum(axis=1)).ravel())
        own = user_numbers[user]
        cosines = (weights @ weights[[own]].T).toarray().ravel() / norms / norms[own]
        cosines[own] = 0
        nearest = np.argsort(-cosines)[:NEIGHBORS]
        scores = cosines[nearest] @ weights[nearest]
        scores[weights[[own]].indices] = 0
        items = list(item_numbers)
        return [items[item] for item in np.argsort(-scores)[:K] if scores[item] > 0]

    return summary(times(answer, users))


def nearest_items(connection: psycopg.Connection, users: Sequence[str]) -> dict[str, Any]:
    """(c) Plain pgvector: the items nearest to the user's stored vector in one query, through the HNSW index."""
    (model,) = fetch_row(connection, "select model_id from recdb.model where active")
    connection.execute("set hnsw.ef_search = 100")
    statement = f"""
        select t.item_id, n.similarity
        from (
            select v.item_key, 1 - (v.embedding <=> q.embedding) as similarity
            from (
                select u.embedding from recdb.user_vector u
                where u.model_id = {model}
                  and u.user_key = (select k.user_key from recdb.user_key k where k.user_id = %s::text)
            ) q
            cross join lateral (
                select i.item_key, i.embedding from recdb.item_vector i
                where i.model_id = {model}
                order by i.embedding <=> q.embedding limit {K}
            ) v
        ) n
        join recdb.item_key t on t.item_key = n.item_key
        order by n.similarity desc
    """

    def answer(user: str) -> list[Any]:
        return connection.execute(statement, [user], prepare=True).fetchall()

    for user in users:
        answer(user)
    figures = summary(times(answer, users))
    connection.execute("reset hnsw.ef_search")
    return figures


def resident_mb() -> float:
    """Return the largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


class Service:
    """(b) A process with its models in memory, that fetches the user's current interactions for every request."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self.connection = connection
        self.users = dict(connection.execute("select user_id, user_key from recdb.user_key").fetchall())
        self.items = dict(connection.execute("select item_id, item_key from recdb.item_key").fetchall())
        self.names = {number: item for item, number in self.items.items()}
        self.weights = dict(connection.execute("select kind, weight from recdb.interaction_kind").fetchall())
        known = copy_out(
            connection,
            "select user_key, item_key, weight::real from recdb.user_item",
            [("users", np.int32), ("items", np.int32), ("weights", np.float32)],
        )
        shape = max(self.users.values()) + 1, max(self.items.values()) + 1
        self.matrix = sparse.csr_matrix((known["weights"], (known["users"], known["items"])), shape=shape)

    def answer(self, model: Any, user: str, *, catalogue: bool) -> list[tuple[str, float]]:
        """Return a list; with `catalogue`, without items that are unavailable or the user's own by now."""
        rows = self.connection.execute(
            "select item_id, kind from recdb.interaction where user_id = %s", [user], prepare=True
        ).fetchall()
        items = [self.items[item] for item, _ in rows]
        weights = [self.weights.get(kind, 0.1) for _, kind in rows]
        profile = sparse.csr_matrix(
            (np.array(weights, dtype=np.float32), (np.zeros(len(items), dtype=np.int32), items)),
            shape=(1, self.matrix.shape[1]),
        )
        profile.sum_duplicates()
        found, scores = model.recommend(0, profile, N=K, filter_already_liked_items=True, recalculate_user=True)
        pairs = zip(found.tolist(), scores.tolist(), strict=True)
        best = [(self.names[item], score) for item, score in pairs if score > 0]
        eligible = self.eligible([item for item, _ in best], user) if catalogue else None
        return [(item, score) for item, score in best if eligible is None or item in eligible]

    def eligible(self, items: list[str], user: str) -> set[str]:
        """Read from the catalogue which items a user may get."""
        rows = self.connection.execute(
            "select item_id from recdb.item where item_id = any (%s) and available and owner_id is distinct from %s",
            [items, user],
            prepare=True,
        ).fetchall()
        return {row[0] for row in rows}

    def measure_model(self, name: str, model: Any, users: Sequence[str]) -> dict[str, Any]:
        """Fit a model and time its answers."""
        began = time.monotonic()
        model.fit(self.matrix, show_progress=False)
        fitted = time.monotonic() - began
        model.num_threads = 1  # for one request, threads cost more time than they save
        figures = {}
        for ending, catalogue in (("", False), (CHECKED, True)):
            answer: Callable[[str], Any] = partial(self.answer, model, catalogue=catalogue)
            times(answer, users)
            figures[name + ending] = summary(times(answer, users))
        return figures | {name: figures[name] | {"fit_seconds": round(fitted, 2), "process_mb": round(resident_mb())}}


def main() -> None:
    """Measure the models in memory."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--users", required=True)
    arguments = parser.parse_args()
    try:
        from implicit.als import AlternatingLeastSquares  # noqa: PLC0415  only this process has it in memory
        from implicit.nearest_neighbours import CosineRecommender  # noqa: PLC0415
    except ImportError as error:
        raise RecdbError("the rivals need the library implicit", f"run: {install_command('bench')}") from error

    users = arguments.users.split(",")
    with psycopg.connect(arguments.url, autocommit=True) as connection:
        service = Service(connection)
        item_knn = service.measure_model("item-kNN in memory", CosineRecommender(K=Params().item_neighbors), users)
        als = AlternatingLeastSquares(factors=FACTORS, iterations=ITERATIONS, random_state=0)
        print(json.dumps(item_knn | service.measure_model("ALS in memory", als, users)))


if __name__ == "__main__":
    main()
