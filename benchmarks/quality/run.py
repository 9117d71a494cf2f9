"""Ranking quality: recdb with its defaults and tuned, beside the rivals, on every data set of a folder.

    make bench-quality DATA=folder

Each data set is a folder with train.csv.gz, test.csv.gz and meta.json ({"weights": {kind: weight}, "hides": "all" or a
list of kinds}). recdb learns, tunes and answers through `recdb evaluate`; its tuner sees the training file only. The
rivals' settings are chosen on the test part, so each is shown at its best. The table goes into README.md.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from implicit.als import AlternatingLeastSquares
from implicit.nearest_neighbours import BM25Recommender, CosineRecommender, TFIDFRecommender
from scipy import sparse

from recdb import migrate
from recdb.arrays.weighted import read_interactions
from recdb.data.load import load
from recdb.database import connect, scratch_database
from recdb.evaluate.plan import Kinds
from recdb.evaluate.reading import read_eligibility, read_test
from recdb.evaluate.run import set_kinds
from recdb.learn import Params, fit_item_neighbors, to_matrix
from recdb.learn.item_neighbors import EASE_ITEMS
from recdb.learn.limits import Rows
from recdb.offline import baselines
from recdb.offline.baselines import TopLists
from recdb.offline.metrics import Truth, score_lists

README = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- results -->", "<!-- /results -->"
METRICS = ("recall@20", "ndcg@20")
MARKS = (30, 60, 120, 180, 240, 300)
"""Seconds of a search after which the best setting so far is shown."""


class Rivals:
    """One data set in memory, and the rivals that rank on it."""

    def __init__(self, folder: Path, meta: dict[str, Any]) -> None:
        relevant = read_test(str(folder / "test.csv.gz"))
        with scratch_database() as database:
            migrate.upgrade(database)
            with connect(database) as connection:
                set_kinds(connection, kinds(meta))
            load(database, str(folder / "train.csv.gz"))
            with connect(database) as connection:
                connection.execute("select recdb.rebuild()")
                self.weights = read_interactions(connection).matrix()
                self.eligibility = read_eligibility(connection, self.weights.shape)
                users = dict(connection.execute("select user_id, user_key from recdb.user_key").fetchall())
                items = dict(connection.execute("select item_id, item_key from recdb.item_key").fetchall())
        known = [user for user in relevant if user in users]
        self.users = np.array([users[user] for user in known])
        self.truth = Truth([relevant[user] for user in known], items)
        self.popularity = np.bincount(self.weights.indices, minlength=self.weights.shape[1])

    def score(self, lists: TopLists) -> dict[str, float]:
        """Score lists (users, 20) of item numbers."""
        means = score_lists(lists, self.truth, self.popularity, self.weights.shape[0] - 1, [20]).means
        return {metric: means[metric] for metric in METRICS}

    def from_scores(self, make: Callable[[sparse.csr_array], baselines.Scorer], weights: sparse.csr_array) -> TopLists:
        """Rank by a scorer over all items."""
        return baselines.top_lists(make(weights), self.users, self.eligibility, 20)

    def from_implicit(self, model: Any, weights: sparse.csr_array) -> TopLists:
        """Rank by a model of the `implicit` library, and leave out the hidden items."""
        matrix = sparse.csr_matrix(weights)
        model.fit(matrix, show_progress=False)
        hidden = self.eligibility.hidden
        most = int(np.diff(hidden[self.users].indptr).max(initial=0)) + 20
        lists, scores = model.recommend(
            self.users, matrix[self.users], N=min(most, weights.shape[1]), filter_already_liked_items=False
        )
        kept = np.full((len(self.users), 20), -1, dtype=np.int64)
        for row, user in enumerate(self.users):
            left_out = hidden.indices[hidden.indptr[user] : hidden.indptr[user + 1]]
            good = lists[row][~np.isin(lists[row], left_out) & (scores[row] > 0)][:20]
            kept[row, : len(good)] = good
        return kept

    def run(self) -> Iterator[tuple[str, dict[str, float]]]:
        """Yield each rival's name and its figures at its best setting by ndcg@20."""
        equal = self.weights.copy()
        equal.data = np.ones_like(equal.data)
        inputs = (self.weights, equal)

        def best(lists: Iterator[TopLists]) -> dict[str, float]:
            return max((self.score(each) for each in lists), key=lambda figures: figures["ndcg@20"])

        yield "popularity", self.score(baselines.popularity(self.weights, self.users, self.eligibility, 20))
        yield (
            "user-kNN, exact cosine",
            best(self.from_scores(lambda m, n=n: baselines.user_knn(m, n), w) for w in inputs for n in (50, 100, 200)),
        )
        for name, make in (
            ("item-kNN cosine", CosineRecommender),
            ("item-kNN TF-IDF", TFIDFRecommender),
            ("item-kNN BM25", BM25Recommender),
        ):
            yield name, best(self.from_implicit(make(K=k), w) for w in inputs for k in (20, 100, 200))
        yield (
            "ALS",
            best(
                self.from_implicit(
                    AlternatingLeastSquares(factors=f, regularization=r, alpha=a, iterations=15, random_state=0), w
                )
                for w in inputs
                for f, r, a in ((64, 0.05, 1), (128, 0.05, 10), (128, 0.1, 40))
            ),
        )
        if (self.popularity > 0).sum() <= EASE_ITEMS // 2:

            def ease(regularization: float, weights: sparse.csr_array) -> TopLists:
                params = Params(
                    learner="ease", ease_regularization=regularization, item_neighbors=2000, self_weight=0.0,
                    item_user_exponent=0.0, target_exponent=0.0,
                )  # fmt: skip
                rows = Rows(weights, np.ones(weights.shape[0], np.float32))
                learned = to_matrix(fit_item_neighbors(rows, params), weights.shape[1])
                return self.from_scores(lambda m: lambda block: m[block] @ learned, weights)

            yield "EASE", best(ease(r, w) for w in inputs for r in (0.3, 1.0, 3.0, 10.0))


def kinds(meta: dict[str, Any]) -> Kinds:
    """Read weights and hiding kinds from a meta.json."""
    return Kinds(meta["weights"], None if meta["hides"] == "all" else meta["hides"])


def evaluate(folder: Path, meta: dict[str, Any], *options: str) -> dict[str, Any]:
    """Run `recdb evaluate` on a data set and return its JSON."""
    command = [sys.executable, "-m", "recdb.cli", "evaluate", "--json", *options]
    command += ["--train", str(folder / "train.csv.gz"), "--test", str(folder / "test.csv.gz")]
    command += ["--weights", ",".join(f"{kind}={weight}" for kind, weight in meta["weights"].items())]
    if meta["hides"] != "all":
        command += ["--hides", ",".join(meta["hides"])]
    return dict(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))


def curve(trials: list[dict[str, Any]]) -> str:
    """Say which objective the best setting had on all validation users after so many seconds of the search."""
    most = max(trial["users"] for trial in trials)
    whole = [(t["seconds"], (t["recall@20"] * t["ndcg@20"]) ** 0.5) for t in trials if t["users"] == most]
    found = {end: max((value for began, value in whole if began < end), default=0.0) for end in MARKS}
    shown = [(end, value) for end, value in found.items() if value and whole[-1][0] >= end]
    return ", ".join(f"{value:.4f} ({end} s)" for end, value in shown)


def section(folder: Path, budget: str, rivals: list[str] | None) -> str:
    """Measure a data set and return its table; `rivals` are the rivals' lines if they are known."""
    meta = json.loads((folder / "meta.json").read_text())
    if rivals is None:
        rivals = [line(name, figures) for name, figures in Rivals(folder, meta).run()]
    default, tuned = evaluate(folder, meta), evaluate(folder, meta, "--tune", "--cost", "any", "--budget", budget)
    chosen = {k: v for k, v in tuned["params"].items() if v != Params().to_json()[k]}
    trials = tuned["tuning"]["curve"]
    return "\n".join(
        [
            f"### {folder.name}: {tuned['users']:,} test users",
            "",
            "| | recall@20 | ndcg@20 | recommend() p50 |",
            "|---|---|---|---|",
            *rivals,
            line("**recdb, defaults**", default),
            line("**recdb, tuned**", tuned),
            "",
            f"Tuned in {budget}, {len(trials)} trials, to `{json.dumps(chosen)}`.",
            "",
            f"The best objective so far on all validation users: {curve(trials)}.",
            "",
        ]
    )


def line(name: str, figures: dict[str, Any]) -> str:
    """Write a row of a table."""
    latency = f"{figures['latency_ms']['p50']:.1f} ms" if "latency_ms" in figures else ""
    return f"| {name} | {figures['recall@20']:.4f} | {figures['ndcg@20']:.4f} | {latency} |"


def main() -> None:
    """Run data sets and rewrite their tables in README.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--budget", default="5m", help="how long the tuner searches")
    parser.add_argument("--only", action="append", metavar="NAME", help="a data set; the tables of the others stay")
    parser.add_argument(
        "--keep-rivals", action="store_true", help="take the rivals' figures from the tables that are there"
    )
    arguments = parser.parse_args()
    for folder in sorted(path.parent for path in arguments.folder.glob("*/meta.json")):
        if arguments.only and folder.name not in arguments.only:
            continue
        before, *tables = read_tables()
        known = next((table for table in tables if table.startswith(f"### {folder.name}:")), None)
        rivals = None
        if arguments.keep_rivals and known:
            rivals = [row for row in known.splitlines() if row.startswith("| ") and "**" not in row][1:]
        made = section(folder, arguments.budget, rivals)
        print(made, flush=True)
        before, *tables = read_tables()
        others = [table for table in tables if not table.startswith(f"### {folder.name}:")]
        after = README.read_text()[README.read_text().index(END) :]
        README.write_text("\n".join([before, *sorted([*others, made]), after]))


def read_tables() -> list[str]:
    """Return the text of README.md before the tables, and each data set's table."""
    text = README.read_text()
    start = text.index(BEGIN) + len(BEGIN)
    parts = ("\n" + text[start : text.index(END)].strip("\n")).split("\n### ")[1:]
    return [text[:start] + "\n", *(f"### {part.rstrip()}\n" for part in parts)]


if __name__ == "__main__":
    main()
