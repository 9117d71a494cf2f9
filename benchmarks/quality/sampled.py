"""What a training that learns from a sample of the users loses.

    .venv/bin/python benchmarks/quality/sampled.py DATA

For each data set of the folder (as in run.py) recdb trains with its defaults: first from everybody, then with
config.training_interactions at 1/2, 1/4, ... 1/64 of the weighted interactions. Every user has a vector in each
version, and every test user is asked for. SCALE.md has the figures.
"""

import argparse
import time
from pathlib import Path
from typing import NamedTuple

import psycopg
from served import HERE, PAGE, as_numbers, plain_axes, plt, read_meta, save_plot, serve, write_section

from recdb import job, migrate
from recdb.data.load import load
from recdb.database import connect, fetch_row, scratch_database
from recdb.evaluate.reading import read_test
from recdb.evaluate.run import set_kinds
from recdb.offline.metrics import Truth, user_metrics

PARTS = (1, 2, 4, 8, 16, 32, 64)


class Measured(NamedTuple):
    """The lists of a version that learned from one part of the users."""

    part: int
    learned_from: int
    """The number of users."""
    recall: float
    ndcg: float
    seconds: float


def score(connection: psycopg.Connection, relevant: dict[str, set[str]]) -> tuple[float, float]:
    """Return recall and ndcg at PAGE of the lists that are served to the test users."""
    keys = dict(connection.execute("select item_id, item_key from recdb.item_key").fetchall())
    users = {user for (user,) in connection.execute("select user_id from recdb.user_key")}
    known = sorted(users & relevant.keys())
    truth = Truth([relevant[user] for user in known], keys)
    figures = user_metrics(truth.hits(as_numbers(serve(connection, known, "default"), keys)), truth.counts, PAGE)
    return float(figures[f"recall@{PAGE}"].mean()), float(figures[f"ndcg@{PAGE}"].mean())


def measure(folder: Path) -> list[Measured]:
    """Train on a data set from each part of the users, and score the lists of the test users."""
    relevant = read_test(str(folder / "test.csv.gz"))
    _, kinds = read_meta(folder)
    found = []
    with scratch_database() as database:
        migrate.upgrade(database)
        with connect(database, autocommit=True) as connection:
            set_kinds(connection, kinds)
        load(database, str(folder / "train.csv.gz"))
        for part in PARTS:
            with connect(database, autocommit=True) as connection:
                connection.execute(
                    "update recdb.config set kept_models = 1, training_interactions = coalesce("
                    "nullif((select count(*) from recdb.user_item where weight <> 0), 0) / %s, training_interactions)",
                    [part],
                )
            began = time.monotonic()
            job.run(database, full=True, force=True)
            seconds = time.monotonic() - began
            with connect(database, autocommit=True) as connection:
                (users,) = fetch_row(connection, "select users from recdb.model where active")
                found.append(Measured(part, users, *score(connection, relevant), seconds))
            print(f"{folder.name}: {found[-1]}", flush=True)
    return found


def describe(name: str, found: list[Measured]) -> list[str]:
    """Return the table of a data set."""
    whole = found[0]
    lines = [
        f"### {name}: {whole.learned_from:,} users",
        "",
        f"| learned from | users | recall@{PAGE} | of the whole | ndcg@{PAGE} | of the whole |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {'all' if each.part == 1 else f'1/{each.part}'} | {each.learned_from:,} | {each.recall:.4f} | "
        f"{each.recall / whole.recall:.1%} | {each.ndcg:.4f} | {each.ndcg / whole.ndcg:.1%} |"
        for each in found
    ]
    return [*lines, ""]


def draw(results: dict[str, list[Measured]], file: Path) -> None:
    """Plot the kept share of ndcg against the number of users that a version learned from."""
    figure, axes = plt.subplots(figsize=(6, 3.5))
    for name, found in results.items():
        kept = [each.ndcg / found[0].ndcg for each in found]
        axes.plot([each.learned_from for each in found], kept, "o-", label=name)
    axes.set(xscale="log", xlabel="users that the training learned from", ylabel=f"share of the whole's ndcg@{PAGE}")
    axes.legend(frameon=False)
    plain_axes(axes)
    save_plot(figure, file)


def main() -> None:
    """Measure every data set of a folder and rewrite the section of SCALE.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=HERE, help="the folder of SCALE.md")
    arguments = parser.parse_args()
    folders = sorted(path.parent for path in arguments.folder.glob("*/meta.json"))
    results = {folder.name: measure(folder) for folder in folders}
    lines = [line for name, found in results.items() for line in describe(name, found)]
    print("\n".join(lines))
    draw(results, arguments.out / "results" / "sampled.svg")
    write_section(arguments.out / "SCALE.md", "sampled", [*lines, "![Loss of a sampled training](results/sampled.svg)"])


if __name__ == "__main__":
    main()
