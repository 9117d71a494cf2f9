"""The user-based part, with vectors of several widths and with exact sparse cosine, on validation parts.

    .venv/bin/python benchmarks/quality/people.py DATA

For each data set of the folder (as in run.py) the user-based part alone ranks a validation part that is split from the
training file. The columns differ only in how the similarity of two users is computed; each shows its best exponents.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from run import BEGIN, END, kinds

from recdb import migrate
from recdb.arrays.events import read_events
from recdb.data.load import load
from recdb.database import connect, scratch_database
from recdb.evaluate.run import set_kinds
from recdb.learn import Params
from recdb.learn.events import Events
from recdb.learn.scoring import Neighborhood
from recdb.offline.baselines import unit_rows
from recdb.offline.evaluator import MOST_NEIGHBORS, OfflineEvaluator
from recdb.offline.validation import Trial, ValidationUsers

README = Path(__file__).parent / "PEOPLE.md"
DIMENSIONS = (64, 128, 256, 512)
LIMIT = 500
ALONE = Params(blend=1.0, people_recency=0.0, profile_limit=LIMIT)
WEIGHT_EXPONENTS = [{"people_weight_exponent": e, "neighbor_weight_exponent": e} for e in (0.0, 0.5, 1.0)]
NEIGHBORS = [{"neighbors": n, "similarity_exponent": q} for n in (50, 100, 200) for q in (1.0, 2.0)]
BASES = [{"basis_user_exponent": a, "basis_item_exponent": b} for a in (0.0, 0.25, 0.5) for b in (0.0, 0.25, 0.5)]


class ExactEvaluator(OfflineEvaluator):
    """An offline evaluator that compares users by the cosine of their weighted items."""

    def _nearest(self, params: Params, validation: ValidationUsers) -> Neighborhood:
        def find() -> Neighborhood:
            unit = unit_rows(self._matrix(params.people_weight_exponent, self._limit(params)))
            users, similarities = [], []
            for block in validation.slices():
                cosines = (unit[validation.users[block]] @ unit.T).toarray()
                cosines[np.arange(len(cosines)), validation.users[block]] = 0
                nearest = np.argsort(-cosines, axis=1, kind="stable")[:, :MOST_NEIGHBORS]
                users.append(nearest.astype(np.int64))
                similarities.append(np.take_along_axis(cosines, nearest, axis=1).astype(np.float32))
            return Neighborhood(np.concatenate(users), np.concatenate(similarities))

        return self._cache.get(("exact", params.people_weight_exponent), find)


def read(folder: Path) -> Events:
    """Read a data set's training file as events."""
    meta = json.loads((folder / "meta.json").read_text())
    with scratch_database() as database:
        migrate.upgrade(database)
        with connect(database) as connection:
            set_kinds(connection, kinds(meta))
        load(database, str(folder / "train.csv.gz"))
        with connect(database, autocommit=True) as connection:
            connection.execute("select recdb.rebuild()")
            return read_events(connection)


def settings(*parts: list[dict[str, Any]]) -> Iterator[Params]:
    """Yield every combination of some changes."""
    for chosen in product(*parts):
        yield replace(ALONE, **{name: value for part in chosen for name, value in part.items()})


def best(evaluator: OfflineEvaluator, tried: Iterator[Params]) -> Trial:
    """Return the best setting by ndcg@20."""
    return max((evaluator.try_out(params) for params in tried), key=lambda trial: trial.ndcg)


def main() -> None:
    """Try every data set and rewrite the table in PEOPLE.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    lines = [
        "| recall@20 / ndcg@20 | " + " | ".join(f"{d} dimensions" for d in DIMENSIONS) + " | exact cosine |",
        "|---" * (len(DIMENSIONS) + 2) + "|",
    ]
    for folder in sorted(path.parent for path in parser.parse_args().folder.glob("*/meta.json")):
        events = read(folder)
        evaluator = OfflineEvaluator(events, LIMIT, rank=max(DIMENSIONS))
        # First the exponents at one width, then the neighbours at each width.
        exponents = best(evaluator, settings(WEIGHT_EXPONENTS, BASES)).params
        trials = [
            best(evaluator, (replace(exponents, dimension=d, **counted) for counted in NEIGHBORS)) for d in DIMENSIONS
        ]
        trials.append(best(ExactEvaluator(events, LIMIT), settings(WEIGHT_EXPONENTS, NEIGHBORS)))
        lines.append(f"| {folder.name} | " + " | ".join(f"{t.recall:.4f} / {t.ndcg:.4f}" for t in trials) + " |")
        print(lines[-1], flush=True)
    text = README.read_text()
    before, after = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
    README.write_text(f"{before}\n\n" + "\n".join(lines) + f"\n\n{after}")


if __name__ == "__main__":
    main()
