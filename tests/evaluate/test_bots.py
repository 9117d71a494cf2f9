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
VIEW, LIKE, SHARE = "view", "like", "share"

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
    """Bots that come back every two hours, for a few random items within two minutes."""

    def make(events: Events, generator: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
        known = np.unique(events.items)
        when = (np.arange(-visits + 1, 1)[:, None] * 7200 + 30 * np.arange(size)).ravel()
        return [(generator.choice(known, visits * size), when) for _ in range(bots)]

    return make


def alike(bots: int) -> Bots:
    """Bots that all share the same items in one visit: popular ones and some others."""

    def make(events: Events, generator: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
        popular = np.argsort(-np.bincount(events.items))[:20]
        items = np.r_[popular, generator.permutation(np.unique(events.items))[:40]]
        return [(items, np.arange(-len(items) + 1, 1) * 20) for _ in range(bots)]

    return make


def promote(bots: int, visits: int, size: int) -> Bots:
    """Bots that come back every two hours, each time for an item that nobody else knows and a few known ones."""

    def make(events: Events, generator: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
        known = np.unique(events.items)
        when = (np.arange(-visits + 1, 1)[:, None] * 7200 + 30 * np.arange(size)).ravel()
        made = []
        for _ in range(bots):
            items = generator.choice(known, (visits, size))
            items[:, 0] = events.shape[1] + np.arange(visits) % 40
            made.append((items.ravel(), when))
        return made

    return make


DEFAULTS, FULL, EASE, HALF, NORMALIZED = "defaults", "weights to the full", "EASE", "a of one half", "rows normalized"
PARAMS = {
    DEFAULTS: Params(),
    FULL: Params(blend=0.6, neighbor_weight_exponent=1.0, item_weight_exponent=1.0, people_weight_exponent=1.0),
    EASE: Params(learner="ease", item_user_exponent=0.0, target_exponent=0.0, ease_regularization=0.3),
    HALF: Params(item_user_exponent=0.5, source_exponent=0.5, target_exponent=0.5),
    NORMALIZED: Params(item_user_exponent=1.0, basis_user_exponent=1.0, session_weight=500.0),
}

SCENARIOS: dict[str, tuple[Bots, str, list[str]]] = {
    "ten crawlers": (crawl(10, 20_000, 300, 130), VIEW, [DEFAULTS, FULL, EASE]),
    "a load test within a second": (crawl(1, 20_000, 300, 0), VIEW, [DEFAULTS]),
    "a shared account that does everything": (crawl(1, 40_000, 300, 30), LIKE, [FULL]),
    "ten bots of a like each ten minutes": (crawl(10, 8_640, 300, 600), LIKE, [DEFAULTS, HALF, EASE]),
    "ten bots that share the same items": (alike(10), SHARE, [DEFAULTS, HALF]),
    "ten bots with short visits": (drop_in(10, 720, 2), LIKE, [DEFAULTS, NORMALIZED]),
    "a bot that promotes new items": (promote(1, 400, 4), SHARE, [EASE, NORMALIZED]),
    "ten bots that promote new items": (promote(10, 400, 4), SHARE, [DEFAULTS, HALF, NORMALIZED]),
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


def ndcg(evaluator: OfflineEvaluator, params: Params) -> float:
    """Rank for the users of the validation part, after learning from the rest and from others."""
    return float(evaluator.user_metrics(params)[1].mean())


@pytest.fixture(scope="module")
def clean(events: Events) -> dict[str, float]:
    """What the users' lists reach without bots, for each setting."""
    evaluator = OfflineEvaluator(events, 500)
    return {name: ndcg(evaluator, params) for name, params in PARAMS.items()}


def join(events: Events, bots: Bots, kind: str) -> Events:
    """Return the interactions of bots, who are new users."""
    number = int(np.flatnonzero(events.weights == {VIEW: 0.1, LIKE: 0.7, SHARE: 1.0}[kind])[0])
    made = bots(events, np.random.default_rng(1))
    lengths = [len(items) for items, _ in made]
    first = events.shape[0]
    return replace(
        events,
        users=np.repeat(np.arange(first, first + len(made)), lengths).astype(np.int32),
        items=np.concatenate([items for items, _ in made]).astype(np.int32),
        kinds=np.full(sum(lengths), number, dtype=np.int16),
        seconds=(events.seconds.max() + np.concatenate([seconds for _, seconds in made])).astype(np.int32),
        shape=(first + len(made), max(events.shape[1], *(int(items.max()) + 1 for items, _ in made), 0)),
    )


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_bots_do_not_bend_the_lists_of_others(events: Events, clean: dict[str, float], scenario: str) -> None:
    bots, kind, settings = SCENARIOS[scenario]
    evaluator = OfflineEvaluator(events, 500, others=join(events, bots, kind))

    bent = {name: ndcg(evaluator, PARAMS[name]) / clean[name] for name in settings}

    assert min(bent.values()) > 0.97, bent


HELD_OUT = """
    select distinct on (user_id) user_id, item_id from recdb.interaction
    where kind in ('like', 'share') order by user_id, created_at desc, item_id
"""
HITS = """
    select count(*) from held_out h
    where exists (select from recdb.recommend(h.user_id, 20) r where r.item_id = h.item_id)
"""


def test_a_crawler_neither_bends_the_lists_of_others_nor_keeps_a_new_version_from_serving(
    generated: Database, events: Events
) -> None:
    """Through SQL: 20,000 views, one each 130 seconds, over all items. It changes the database that `events` read."""
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
