"""Robustness: whatever one id does, or ten of them, everybody else's ranking stays as good as it was.

The offline evaluator holds out interactions of real users, then bots join what is learned from. One test asks the
database itself.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import psycopg
import pytest
from support.servers import Server

from recdb import job, migrate
from recdb.arrays.events import read_events
from recdb.data.generate import generate
from recdb.database import Database, fetch_row
from recdb.learn import Params
from recdb.learn.events import Events
from recdb.offline.evaluator import OfflineEvaluator

USERS, ITEMS, INTERACTIONS = 400, 300, 20_000
VIEW, LIKE = "view", "like"

Bots = Callable[[Events, np.random.Generator], list[tuple[np.ndarray, np.ndarray]]]
"""Returns for each bot the items and the seconds of its interactions."""


def crawl(bots: int, views: int, items: int, pause: int) -> Bots:
    """Bots that go round a number of items, one interaction each pause, without ever leaving."""

    def make(events: Events, generator: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
        known = np.unique(events.items)
        return [
            (np.resize(generator.permutation(known)[:items], views), np.arange(-views + 1, 1) * pause)
            for _ in range(bots)
        ]

    return make


def drop_in(bots: int, visits: int, size: int) -> Bots:
    """Bots that come back every hour, for a few random items within two minutes."""

    def make(events: Events, generator: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
        known = np.unique(events.items)
        when = (np.arange(-visits + 1, 1)[:, None] * 3600 + 30 * np.arange(size)).ravel()
        return [(generator.choice(known, visits * size), when) for _ in range(bots)]

    return make


SCENARIOS: dict[str, tuple[Bots, str]] = {
    "a crawler": (crawl(1, 20_000, 300, 130), VIEW),
    "three crawlers": (crawl(3, 20_000, 300, 130), VIEW),
    "ten crawlers": (crawl(10, 20_000, 300, 130), VIEW),
    "a load test within a second": (crawl(1, 20_000, 300, 0), VIEW),
    "a kiosk on the same few items": (crawl(1, 20_000, 40, 400), VIEW),
    "a bot of likes": (crawl(1, 3_000, 300, 5), LIKE),
    "ten bots of likes": (crawl(10, 3_000, 300, 5), LIKE),
    "a shared account that does everything": (crawl(1, 40_000, 300, 30), LIKE),
    "three bots with hourly visits": (drop_in(3, 1_000, 4), LIKE),
    "ten bots with hourly visits": (drop_in(10, 500, 4), VIEW),
}


@pytest.fixture(scope="module")
def generated(server: Server) -> Iterator[Database]:
    """Generated users, weighted, without bots and without a model."""
    with psycopg.connect(server.conninfo("postgres"), autocommit=True) as connection:
        connection.execute("drop database if exists bots with (force)")
        connection.execute("create database bots")
    database = Database(server.conninfo("bots"), "test")
    migrate.upgrade(database)
    until = datetime(2026, 1, 1, tzinfo=UTC)
    generate(database, users=USERS, items=ITEMS, count=INTERACTIONS, days=60, seed=2, until=until)
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        connection.execute("select recdb.rebuild()")
    yield database
    with psycopg.connect(server.conninfo("postgres"), autocommit=True) as connection:
        connection.execute("drop database bots with (force)")


@pytest.fixture(scope="module")
def events(generated: Database) -> Events:
    with psycopg.connect(generated.conninfo, autocommit=True) as connection:
        return read_events(connection).renumbered()


def ndcg(events: Events, params: Params, others: Events | None = None) -> float:
    """Rank for the users of the validation part, after learning from the rest and from others."""
    return float(OfflineEvaluator(events, 500, others=others).user_metrics(params)[1].mean())


def join(events: Events, bots: Bots, kind: str) -> Events:
    """Return the interactions of bots, who are new users."""
    number = int(np.flatnonzero(events.weights == {VIEW: 0.1, LIKE: 0.7}[kind])[0])
    made = bots(events, np.random.default_rng(1))
    lengths = [len(items) for items, _ in made]
    first = events.shape[0]
    return replace(
        events,
        users=np.repeat(np.arange(first, first + len(made)), lengths).astype(np.int32),
        items=np.concatenate([items for items, _ in made]).astype(np.int32),
        kinds=np.full(sum(lengths), number, dtype=np.int16),
        seconds=(events.seconds.max() + np.concatenate([seconds for _, seconds in made])).astype(np.int32),
        shape=(first + len(made), events.shape[1]),
    )


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize(
    "params",
    [
        Params(),
        Params(session_weight=10.0, session_gap=1800.0, item_user_exponent=0.125, source_exponent=0.7),
        Params(blend=0.6, neighbor_weight_exponent=1.0, item_weight_exponent=1.0, people_weight_exponent=1.0),
        Params(learner="ease", item_user_exponent=0.0, target_exponent=0.0, ease_regularization=0.3),
    ],
    ids=["defaults", "sessions tuned", "weights to the full", "EASE"],
)
def test_bots_do_not_bend_the_lists_of_others(events: Events, scenario: str, params: Params) -> None:
    clean = ndcg(events, params)
    bots, kind = SCENARIOS[scenario]

    assert ndcg(events, params, join(events, bots, kind)) > 0.97 * clean


HELD_OUT = """
    select distinct on (user_id) user_id, item_id from recdb.interaction
    where kind in ('like', 'share') order by user_id, created_at desc, item_id
"""
HITS = """
    select count(*) from held_out h
    where exists (select from recdb.recommend(h.user_id, 20) r where r.item_id = h.item_id)
"""


def test_a_crawler_neither_bends_the_lists_of_others_nor_keeps_a_new_version_from_serving(generated: Database) -> None:
    """Through SQL: 20,000 views, one each 130 seconds, over all items."""
    with psycopg.connect(generated.conninfo, autocommit=True) as connection:
        connection.execute(f"create table held_out as {HELD_OUT}")
        connection.execute(
            "delete from recdb.interaction i using held_out h where (i.user_id, i.item_id) = (h.user_id, h.item_id)"
        )
        job.run(generated, full=True)
        (clean,) = fetch_row(connection, HITS)

        connection.execute(
            "insert into recdb.interaction (user_id, item_id, kind, created_at) "
            "select 'crawler', 'item-' || (1 + n % 300), 'view', timestamptz '2026-01-01' - n * interval '130 s' "
            "from generate_series(0, 19999) n"
        )
        label = job.run(generated, full=True).model
        (bent,) = fetch_row(connection, HITS)

    assert label == "collaborative_filtering_v2"
    assert clean > 0.2 * USERS and bent > 0.95 * clean
