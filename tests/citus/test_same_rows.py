"""On a distributed database, every step of a recommender's life leaves the rows that it leaves on plain PostgreSQL."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from support.citus import make_database
from support.data import tastes, train
from support.servers import Server

from recdb import everyone, job, migrate, spread
from recdb.database import Database
from recdb.progress import silent

USERS, ITEMS = 120, 60
ALL_NEIGHBORS = {"dimension": 8, "neighbors": 400}
"""Everybody is a neighbour: then no tie decides who is the last one."""

CALLS = {
    "recommend": "select u.user_id, r.* from recdb.user_key u cross join lateral recommend(u.user_id, 20) r",
    "filled up": "select u.user_id, r.* from recdb.user_key u, "
    "lateral recommend(u.user_id, 30, fallback => 'popular', filter => '{\"parity\": 1}') r",
    "a scenario": "select r.* from recommend('u7', 10, scenario => 'steered') r",
    "an older version": "select r.* from recommend('u7', 10, model => 'collaborative_filtering_v1') r",
    "candidates": "select r.* from recommend('u7', 10, among => '{i1,i2,i3,i4}') r",
    "in the own transaction": "select recdb.track('u9', 'i3', 'like') > 0; select r.* from recommend('u9', 10) r",
    "a guest": "select * from recdb.recommend_for_items(array['i1', 'i2'], 10)",
    "a batch": "select * from recdb.recommend_batch(array['u1', 'u2', 'nobody'], 10)",
    "me": "select set_config('recdb.user_id', 'u3', true) <> ''; select * from recdb.recommend_me(10)",
    "neighbors": "select * from recdb.neighbors('u7', 20)",
    "similar items": "select * from recdb.similar_items('i7', 20)",
    "explain": "select r.item_id, e.* from recommend('u7', 5) r, lateral recdb.explain('u7', r.item_id) e",
    "explain neighbors": "select e.* from recommend('u7', 3) r, lateral recdb.explain_neighbors('u7', r.item_id) e",
    "audience": "select * from recdb.audience('i7', 10)",
    "trending": "select * from recdb.trending(10)",
    "popular": "select * from recdb.popular(20)",
    "popular in a segment": 'select * from recdb.popular(10, segment => \'{"country": "is"}\')',
    "heavy users": "select * from recdb.heavy_users()",
    "similar ids": "select * from recdb.similar_ids()",
    "interactions": "select * from recdb.interactions",
    "interactions of some": "select * from recdb.interactions_of_users(array['u1', 'u2', 'late', 'u10', 'nobody'])",
    "profiles": "select user_id, item_id, weight, last_at, heaviest "
    "from recdb.profiles_of(array['u1', 'u2', 'late', 'u10', 'nobody'])",
    "sums by user": "select user_id, kind, sum(events), max(newest), bool_or(ahead), bool_or(valued) "
    "from recdb.sum_by_user() group by 1, 2",
    "sums by item": "select item_id, min(first_at) from recdb.sum_by_item() group by 1",
    "weighted interactions": "select * from recdb.weighted_interactions",
    "weights": "select user_id, item_id, round(weight::numeric, 9), last_at from recdb.user_item_weights",
    "popularity": "select item_id, round(weight::numeric, 9), users from recdb.item_popularity",
    "neighbours' weights": "select v.model_id, v.user_key, n.item_key, round(n.weight::numeric, 4) "
    "from recdb.user_vector v cross join unnest(v.item_keys, v.weights) n(item_key, weight)",
    "vectors by id": "select user_id, model, embedding::text from recdb.user_vectors",
    "impressions": "select * from recdb.online_metrics",
    "an experiment": "select * from recdb.experiment_sums('test')",
    "health": "select model, stored_interactions, users, items, recent_users, vector_share, failing from recdb.health",
    "runs": "select kind, state, users, rows, error from recdb.refresh_log",
    "broken": "select * from recdb.broken()",
    "new items": "select * from recdb.new_item",
}
# An estimate; and on Citus a refresh looks again at the users of the last minutes.
DIFFERS = {"health": {"stored_interactions", "recent_users"}, "runs": {"users", "rows"}}


@dataclass(frozen=True)
class Pair:
    """Two databases with the same history, of which Citus holds the second one."""

    plain: Database
    spread: Database


def live(database: Database, now: datetime, *, distribute: bool) -> None:
    """Lead a recommender's life: load, train, distribute, and everything that changes tables after that."""
    migrate.upgrade(database)
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        connection.execute("update recdb.config set half_life = '30 days', decay_origin = '2026-01-01'")
        connection.execute(
            "insert into recdb.item (item_id, title, attributes, published_at) "
            "select 'i' || n, 'a title of ' || n % 7, jsonb_build_object('parity', n % 2), '2026-01-01' "
            f"from generate_series(0, {ITEMS + 5}) n"
        )
        connection.execute(
            "insert into recdb.user_attributes select 'u' || n, "
            "jsonb_build_object('country', case when n % 5 = 0 then 'is' else 'de' end) "
            f"from generate_series(0, {USERS - 1}) n"
        )
        connection.execute("insert into recdb.scenario (name, freshness, diversity) values ('steered', '1 day', 0.3)")
        record_at(connection, [[*row, n] for n, row in enumerate(tastes(USERS, ITEMS))])
    train(database, **ALL_NEIGHBORS)
    if distribute:
        spread.distribute(database, 4, silent)
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        record_at(connection, [["late", "i1", "like", 1], ["late", "i2", "view", 2], ["u5", "i9", "share", 3]])
        record_at(connection, [["guest", "i4", "like", 4], ["guest", "new item", "like", 5]])
        connection.execute("call recdb.refresh()")
        connection.execute("select recdb.merge_users('guest', 'u6')")
        connection.execute("select recdb.forget_user('u8')")
        connection.execute("insert into recdb.ignored_user (user_id) values ('u10')")
        connection.execute("select recdb.impressions('u7', array['i1', 'i2'], shown_at => %s)", [now])
        connection.execute("select recdb.track('u7', 'i1', 'click', %s)", [now])
        connection.execute("call recdb.refresh()")
        connection.execute("update recdb.interaction_kind set weight = 0.8 where kind = 'like'")
    train(database, **ALL_NEIGHBORS)
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        record_at(connection, [["u11", "i0", "like", 6], ["u12", "i61", "share", 7]])
        connection.execute("select recdb.forget_user('u13')")
        connection.execute("select recdb.activate('collaborative_filtering_v1')")
        connection.execute("select recdb.activate('collaborative_filtering_v2')")
    job.run(database)
    migrate.upgrade(database)


def record_at(connection: psycopg.Connection, rows: Sequence[Sequence[Any]]) -> None:
    """Store interactions (user, item, kind, hours after the turn of the year)."""
    with connection.cursor().copy("copy recdb.interaction (user_id, item_id, kind, created_at) from stdin") as copy:
        for user, item, kind, hours in rows:
            copy.write_row((user, item, kind, stamp(hours)))


def stamp(hours: int) -> str:
    """A time, `hours` after the turn of the year."""
    return f"2026-{1 + hours // 672:02d}-{1 + hours // 24 % 28:02d} {hours % 24:02d}:00+00"


@pytest.fixture(scope="module", params=["one_node", "three_nodes"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """A plain database, and the same on one node or three with four shards."""
    nodes: Sequence[Server] = request.getfixturevalue(request.param)
    made = [make_database(nodes, f"{name}_rows") for name in ("plain", "spread")]
    now = datetime.now(UTC)
    for database in made:
        live(database, now, distribute=database is made[1])
    yield Pair(*made)


def rows_of(database: Database, statements: str) -> tuple[list[str], list[list[Any]]]:
    """Run statements in a transaction that is rolled back; return the last result, sorted, and its columns.

    Floats are left to a comparison with a tolerance: nodes sum in another order.
    """
    with psycopg.connect(database.conninfo) as connection:
        cursor = connection.cursor()
        for statement in statements.split(";"):
            cursor.execute(statement)
        assert cursor.description is not None
        names = [column.name for column in cursor.description]
        rows = [[float(v) if isinstance(v, Decimal) else v for v in row] for row in cursor.fetchall()]
        connection.rollback()
    return names, sorted(rows, key=lambda row: repr([value for value in row if not isinstance(value, float)]))


def assert_alike(found: Sequence[Sequence[Any]], expected: Sequence[Sequence[Any]]) -> None:
    """The rows are equal, but for the last digits of floats."""
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert [pytest.approx(v, abs=1e-5, rel=1e-5) if isinstance(v, float) else v for v in theirs] == list(ours)


@pytest.mark.parametrize("call", CALLS)
def test_a_call_gives_the_rows_of_plain_postgresql(pair: Pair, call: str) -> None:
    names, expected = rows_of(pair.plain, CALLS[call])
    _, found = rows_of(pair.spread, CALLS[call])
    if call not in ("heavy users", "similar ids", "broken", "an experiment"):
        assert expected  # else the comparison says nothing
    kept = [place for place, name in enumerate(names) if name not in DIFFERS.get(call, ())]
    assert_alike(
        [[row[place] for place in kept] for row in found], [[row[place] for place in kept] for row in expected]
    )


def test_everybodys_lists_are_those_of_plain_postgresql(pair: Pair, tmp_path: Path) -> None:
    files = [tmp_path / "plain.csv", tmp_path / "spread.csv"]
    for database, file in zip((pair.plain, pair.spread), files, strict=True):
        everyone.recommend_all(database, str(file), k=5)
    expected, found = (
        sorted([*line.split(",")[:3], float(line.split(",")[3])] for line in file.read_text().splitlines()[1:])
        for file in files
    )
    assert len(found) > USERS
    assert_alike(found, expected)
