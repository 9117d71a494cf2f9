"""What diversity and the most items of one owner or attribute cost in ndcg, and what they give.

    .venv/bin/python benchmarks/quality/diversity.py DATA

For each data set of the folder (as in run.py) recdb learns from the training file with its defaults, and
recommend_batch() serves the lists of the test users under one scenario after the other. Where the catalogue has no
owners, groups of items whose vectors are alike stand for them.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from served import (
    HERE,
    PAGE,
    as_numbers,
    mean_interval,
    plain_axes,
    plt,
    read_meta,
    save_plot,
    serve,
    set_scenario,
    write_section,
)

from recdb import job, migrate
from recdb.data.load import load
from recdb.database import connect, fetch_row, scratch_database
from recdb.evaluate.reading import read_test
from recdb.evaluate.run import set_kinds
from recdb.offline.metrics import Truth, user_metrics

DIVERSITIES = (0.1, 0.3, 0.5, 0.7, 1.0)
MOST = (1, 2, 3, 5)
MOST_OWNERS = 1000


@dataclass(frozen=True)
class Measured:
    """The lists of all test users under one scenario."""

    group: str
    """What is set: diversity, max_per_owner or the attribute."""
    value: float
    ndcg: NDArray[np.float64]
    """By user."""
    recall: float
    coverage: float
    distance: float
    """1 - cosine, mean over the pairs of items in a list and over lists."""
    length: float

    @property
    def setting(self) -> str:
        return self.group if self.group == "nothing" else f"{self.group} {self.value:g}"


def intra_list_distance(lists: NDArray[np.int64], vectors: NDArray[np.float32]) -> float:
    """Return 1 - cosine, the mean over the pairs of a list and over the lists of two items or more; 0 without any."""
    distances = []
    for row in lists:
        units = vectors[row[row >= 0]]
        units = units[np.abs(units).sum(1) > 0]
        pairs = len(units) * (len(units) - 1)
        if pairs:
            distances.append(1 - ((units @ units.T).sum() - len(units)) / pairs)
    return float(np.mean(distances)) if distances else 0.0


def read_vectors(connection: psycopg.Connection, keys: dict[str, int]) -> NDArray[np.float32]:
    """Return the model's item vectors at length 1, by number; zeros where it has none."""
    rows = connection.execute("select item_id, embedding::text from recdb.item_vectors").fetchall()
    width = len(rows[0][1].split(","))
    vectors = np.zeros((max(keys.values()) + 1, width), np.float32)
    for item, text in rows:
        vectors[keys[item]] = np.array(text.strip("[]").split(","), np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)


def set_owners(connection: psycopg.Connection, keys: dict[str, int], vectors: NDArray[np.float32]) -> None:
    """Make up owners of about ten items, where there is none: an item goes to the nearest of some items at random."""
    known = np.flatnonzero(np.abs(vectors).sum(1))
    chosen = np.random.default_rng(0).choice(known, min(MOST_OWNERS, 1 + len(known) // 10), replace=False)
    owners = np.argmax(vectors @ vectors[chosen].T, axis=1)
    rows = [(item, f"owner-{owners[key]}") for item, key in keys.items() if vectors[key].any()]
    with connection.cursor() as cursor:
        cursor.execute("create temporary table owner (item_id text, owner_id text)")
        with cursor.copy("copy owner from stdin") as copy:
            for row in rows:
                copy.write_row(row)
        cursor.execute(
            "insert into recdb.item (item_id, owner_id) select item_id, owner_id from pg_temp.owner "
            "on conflict (item_id) do update set owner_id = coalesce(recdb.item.owner_id, excluded.owner_id)"
        )


def scenarios(attribute: str | None) -> Iterator[tuple[str, float, dict[str, Any]]]:
    """Yield what is set, its value and the columns of the scenario."""
    yield "nothing", 0, {}
    yield from (("diversity", d, {"diversity": d}) for d in DIVERSITIES)
    yield from (("max_per_owner", n, {"max_per_owner": n}) for n in MOST)
    if attribute:
        yield from ((f"max_per {attribute}", n, {"max_per_attribute": attribute, "max_per_number": n}) for n in MOST)


def measure(folder: Path) -> list[Measured]:
    """Train on a data set and measure its lists under every scenario."""
    relevant = read_test(str(folder / "test.csv.gz"))
    _, kinds = read_meta(folder)
    with scratch_database() as database:
        migrate.upgrade(database)
        with connect(database, autocommit=True) as connection:
            set_kinds(connection, kinds)
        load(database, str(folder / "train.csv.gz"))
        catalogue = folder / "items.csv.gz"
        if catalogue.exists():
            load(database, str(catalogue), items=True)
        job.run(database, full=True)
        with connect(database, autocommit=True) as connection:
            users = {user for (user,) in connection.execute("select user_id from recdb.user_key")}
            keys = dict(connection.execute("select item_id, item_key from recdb.item_key").fetchall())
            touched = fetch_row(connection, "select count(*) from recdb.item_popularity")[0]
            vectors = read_vectors(connection, keys)
            set_owners(connection, keys, vectors)
            attribute = connection.execute(
                "select a.key from recdb.item i, jsonb_each(i.attributes) a where jsonb_typeof(a.value) = 'array' "
                "group by a.key order by count(*) desc limit 1"
            ).fetchone()
            known = sorted(users & relevant.keys())
            truth = Truth([relevant[user] for user in known], keys)
            found = []
            for group, value, columns in scenarios(attribute[0] if attribute else None):
                set_scenario(connection, "tried", **columns)
                lists = as_numbers(serve(connection, known, "tried"), keys)
                figures = user_metrics(truth.hits(lists), truth.counts, PAGE)
                shown = lists[lists >= 0]
                found.append(
                    Measured(
                        group,
                        value,
                        figures[f"ndcg@{PAGE}"],
                        float(figures[f"recall@{PAGE}"].mean()),
                        len(np.unique(shown)) / touched,
                        intra_list_distance(lists, vectors),
                        len(shown) / len(lists),
                    )
                )
                print(f"{folder.name}: {found[-1].setting}, ndcg {found[-1].ndcg.mean():.4f}", flush=True)
    return found


def describe(name: str, found: list[Measured]) -> list[str]:
    """Return the table of a data set."""
    plain = found[0].ndcg
    lines = [
        f"### {name}: {len(plain):,} test users",
        "",
        f"| scenario | ndcg@{PAGE} | change (95 %) | recall@{PAGE} | coverage | intra-list distance | items a list |",
        "|---|---|---|---|---|---|---|",
    ]
    for each in found:
        low, high = mean_interval(each.ndcg - plain, list(map(str, range(len(plain)))))
        change = (each.ndcg.mean() - plain.mean()) / plain.mean()
        changed = "" if each is found[0] else f"{change:+.1%} ({low / plain.mean():+.1%} to {high / plain.mean():+.1%})"
        lines.append(
            f"| {each.setting} | {each.ndcg.mean():.4f} | {changed} | {each.recall:.4f} | {each.coverage:.1%} | "
            f"{each.distance:.3f} | {each.length:.1f} |"
        )
    return [*lines, ""]


def draw(results: dict[str, list[Measured]], file: Path) -> None:
    """Plot ndcg against the distance within lists and against coverage."""
    figure, panels = plt.subplots(len(results), 2, figsize=(8, 3 * len(results)), squeeze=False)
    for row, (name, found) in zip(panels, results.items(), strict=True):
        for axes, label, x_of in (
            (row[0], "intra-list distance", lambda each: each.distance),
            (row[1], "coverage", lambda each: each.coverage),
        ):
            for group in dict.fromkeys(each.group for each in found[1:]):
                members = [e for e in found if e.group == group]
                line = [found[0], *(members if group == "diversity" else members[::-1])]
                axes.plot([x_of(e) for e in line], [e.ndcg.mean() for e in line], "o-", ms=3, label=group)
                for each in line[1:]:
                    axes.annotate(f"{each.value:g}", (x_of(each), each.ndcg.mean()), fontsize=7)
            axes.set(title=name, xlabel=label, ylabel=f"ndcg@{PAGE}")
            plain_axes(axes)
        row[0].legend(frameon=False, fontsize=7)
    save_plot(figure, file)


def main() -> None:
    """Measure every data set of a folder and rewrite the section of STEERING.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=HERE, help="the folder of STEERING.md")
    arguments = parser.parse_args()
    folders = sorted(path.parent for path in arguments.folder.glob("*/meta.json"))
    results = {folder.name: measure(folder) for folder in folders}
    lines = [line for name, found in results.items() for line in describe(name, found)]
    print("\n".join(lines))
    draw(results, arguments.out / "results" / "diversity.svg")
    write_section(
        arguments.out / "STEERING.md", "diversity", [*lines, "![Cost and gain of diversity](results/diversity.svg)"]
    )


if __name__ == "__main__":
    main()
