"""Scores the lists of items that nobody touched in training: how well recommend() places new items.

The items come from a catalogue. With files, they are those that no row of the training file has. Without, a tenth of
the touched items of the database is withheld whole: the training part has no interaction with them. After the training,
every other item of the scratch database becomes unavailable, so recommend() ranks these items alone. A list without
`fallback` has no popular items, so nothing but the ranking fills it.

Beside recdb stand two rankings of the same items: at random, and by a profile of TF-IDF, the mean of the words and
attributes of the user's items.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import psycopg
from numpy.typing import NDArray
from scipy import sparse

from recdb.arrays.content import Content, read_content
from recdb.arrays.weighted import read_interactions
from recdb.database import Database, connect, fetch_row
from recdb.errors import InvalidInput
from recdb.evaluate.holdout import list_choices, read_relevant_kinds
from recdb.evaluate.plan import ColdPart, Evaluation, Stopwatch, Warm
from recdb.evaluate.scoring import ask
from recdb.latency import Latency
from recdb.learn import Params
from recdb.learn.content_features import idf, weighted
from recdb.offline.metrics import Scores, Truth, score_lists
from recdb.progress import Report

SHARE = "0.1"
"""The share of the touched items that is withheld from a database's own interactions."""


@dataclass(frozen=True)
class NewItems:
    """The items to rank alone, and who should find them."""

    relevant: Mapping[str, set[str]]
    """By user."""
    withheld: Sequence[str] | None = None
    """The items; None for all of the catalogue that nobody touched in training."""


def withhold_items(connection: psycopg.Connection) -> NewItems:
    """Take a tenth of the items out of the interactions that were copied.

    The items are drawn at random, the same in every run, from the touched items of the catalogue. Call it between
    copy_interactions() and hold_out(), whose rule says which items are relevant.
    """
    list_choices(connection)
    read_relevant_kinds(connection)  # it says so where there are no interactions at all
    connection.execute(
        """
        create temporary table withheld on commit drop as
        select c.item_id
        from (select distinct h.item_id from choice h where h.relevant) c
        join recdb.item i on i.item_id = c.item_id and i.available
        order by hashtextextended(c.item_id, 7), c.item_id
        limit (select ceil(count(distinct e.item_id) * %s::numeric) from event e)
        """,
        [SHARE],
    )
    rows = connection.execute(
        """
        select c.user_id, array_agg(c.item_id)
        from choice c
        join withheld w on w.item_id = c.item_id
        join recdb.item i on i.item_id = c.item_id
        where c.relevant and i.owner_id is distinct from c.user_id
        group by c.user_id
        """
    ).fetchall()
    if not rows:
        raise InvalidInput(
            "no item of the catalogue was chosen by anybody, so none can be withheld",
            "load or attach the catalogue: recdb load --items FILE, recdb attach --items TABLE",
        )
    connection.execute("delete from copied c using withheld w where w.item_id = c.item_id")
    withheld = [item for (item,) in connection.execute("select item_id from withheld order by item_id").fetchall()]
    connection.execute("drop table event, choice, withheld")
    return NewItems({user: set(items) for user, items in rows}, withheld)


def split_relevant(database: Database, relevant: Mapping[str, set[str]]) -> tuple[dict[str, set[str]], NewItems]:
    """Split the relevant items of a test file: those that somebody touched in training, and the others."""
    with connect(database) as connection:
        touched = {item for (item,) in connection.execute("select distinct item_id from recdb.interaction").fetchall()}
    warm = {user: items & touched for user, items in relevant.items()}
    cold = {user: items - touched for user, items in relevant.items()}
    return {u: items for u, items in warm.items() if items}, NewItems({u: items for u, items in cold.items() if items})


def score_cold(
    database: Database,
    new: NewItems,
    ks: Sequence[int],
    stopwatch: Stopwatch,
    report: Report,
    warm: Evaluation | None,
) -> Evaluation:
    """Score the lists of new items, for the users to whom some are relevant; `warm` stands beside them.

    Raises InvalidInput if no item is untouched, or no user is known.
    """
    relevant = new.relevant
    with connect(database) as connection:
        items = offer_untouched(connection, new.withheld)
        user_keys: dict[str, int] = dict(connection.execute("select user_id, user_key from recdb.user_key").fetchall())
        params, metrics = fetch_row(connection, "select params, metrics from recdb.model where active")
        content = read_content(connection)
        weights = read_interactions(connection).matrix()
    users = sorted((user for user in relevant if user in user_keys), key=user_keys.__getitem__)
    if not users:
        raise InvalidInput(
            "no user of the training data has a relevant item that nobody touched in it",
            "the test file holds interactions with items that the training file lacks, and --items describes them",
        )
    deepest = max(ks)
    report(f"calling recommend() for {len(users):,} users")
    answers = ask(database, users, deepest)
    stopwatch.lap("ask for new items")

    places = {item: place for place, item in enumerate(items)}
    truth = Truth([relevant[user] for user in users], places)
    lists = np.full((len(users), deepest), -1, dtype=np.int64)
    for row, answer in enumerate(answers.lists):
        lists[row, : len(answer)] = [places.get(item, -1) for item in answer]

    def scored(lists: NDArray[np.int64], intervals: bool = False) -> Scores:
        everybody = np.ones(len(items), dtype=np.int64)
        return score_lists(lists, truth, everybody, len(user_keys), ks, intervals=intervals).without("novelty")

    numbers = np.array([user_keys[user] for user in users])
    rivals = {name: scored(other) for name, other in rival_lists(content, items, weights, numbers, deepest)}
    stopwatch.lap("score new items")
    validation = metrics.get("validation")
    return Evaluation(
        ours=scored(lists, intervals=True),
        baselines=rivals,
        users=len(users),
        unknown_users=len(relevant) - len(users),
        baseline_users=len(users),
        params=Params.of_version(params),
        train_seconds=metrics["train_seconds"],
        # The calls for new items alone look at every other item too: they say nothing about other calls.
        latency=warm.latency if warm else Latency.of(answers.milliseconds),
        seconds=stopwatch.seconds,
        cold=ColdPart(items=len(items), relevant=int(truth.counts.sum())),
        warm=Warm.of(warm) if warm else Warm.validated(validation) if validation else None,
    )


def offer_untouched(connection: psycopg.Connection, only: Sequence[str] | None = None) -> list[str]:
    """Make every touched item of the scratch database unavailable; return the available items that nobody touched.

    With `only`, no other items stay available.
    """
    if only is not None:
        connection.execute("update recdb.item set available = false where item_id <> all (%s)", [list(only)])
    connection.execute(
        "insert into recdb.item (item_id, available) select distinct i.item_id, false from recdb.interaction i "
        "on conflict (item_id) do update set available = false"
    )
    rows = connection.execute("select item_id from recdb.item where available order by item_id").fetchall()
    if not rows:
        raise InvalidInput(
            "somebody touched every item of the catalogue in training, so there is no new item to rank",
            "--items names the catalogue: it has the items that the test file has and the training file lacks",
        )
    connection.commit()
    return [item for (item,) in rows]


def rival_lists(
    content: Content, items: Sequence[str], weights: sparse.csr_array, users: NDArray[np.int64], k: int
) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Yield the name and the lists (users, k) of each other ranking of the items, as places in `items`."""
    width = min(k, len(items))
    generator = np.random.default_rng(0)
    yield "random", np.array([generator.permutation(len(items))[:width] for _ in users])

    tokens = content.tokens.matrix(content.tokens.common())
    vectors = weighted(tokens, idf(tokens))
    rows = {item: row for row, item in enumerate(content.item_ids)}
    new = vectors[[rows[item] for item in items]]
    described = np.flatnonzero(content.item_keys < weights.shape[1])
    placed = sparse.csr_array(
        (np.ones(len(described), dtype=np.float32), (content.item_keys[described], described)),
        shape=(weights.shape[1], len(content.item_ids)),
    )
    lists = np.empty((len(users), width), dtype=np.int64)
    for start in range(0, len(users), 1000):
        liked = (weights[users[start : start + 1000]] > 0).astype(np.float32)
        likeness = ((liked @ placed @ vectors) @ new.T).toarray()
        lists[start : start + 1000] = np.argsort(-likeness, axis=1, kind="stable")[:, :width]
    yield "TF-IDF profile", lists
