"""A scenario's part of an explanation, for ids of any type, in both clients and in the HTTP service."""

import asyncio

import psycopg
import pytest
from support.data import record, tastes, train
from support.http import assert_error
from support.serving import serving

from recdb import AsyncRecommender, InvalidInput, Recommender
from recdb.database import Database

Rows = list[tuple[str, str | None, float]]
EXPLAIN = "/recommendations/explain"
USER = 7


@pytest.fixture(scope="module", autouse=True)
def trained(module_database: Database) -> None:
    """Users and items are numbers; in the place feed, items age, and rules lift some items and pin others."""
    with psycopg.connect(module_database.conninfo, autocommit=True) as connection:
        record(connection, [[user[1:], item[1:], kind] for user, item, kind in tastes()])
        connection.execute(
            "insert into recdb.item (item_id, attributes, published_at) "
            "select n::text, '{\"all\": true}', now() - interval '1 day' from generate_series(0, 59) n"
        )
        connection.execute("insert into recdb.scenario (name, freshness) values ('feed', '2 days')")
        connection.execute(
            "insert into recdb.rule (scenario, condition, factor, place) "
            "values ('feed', '{\"all\": true}', 2, null), ('feed', '{\"all\": true}', null, 3)"
        )
    train(module_database)


@pytest.fixture
def item(shared: psycopg.Connection) -> int:
    """An item of the user's list, but not its best one."""
    rows = shared.execute(f"select item_id from recommend({USER}, 5)").fetchall()
    return int(rows[2][0])


@pytest.fixture
def expected(shared: psycopg.Connection, item: int) -> Rows:
    rows = explain(shared, f"explain('{USER}'::text, '{item}'::text, scenario => 'feed')")
    assert {"freshness", "rule", "pinned"} < {row[0] for row in rows}
    return rows


def explain(connection: psycopg.Connection, call: str) -> Rows:
    return connection.execute(f"select source, because_id, contribution from recdb.{call}").fetchall()  # type: ignore[call-overload,no-any-return]


def assert_like(rows: Rows, expected: Rows) -> None:
    """Assert that rows are the expected ones; between the two calls the item has become a little older."""
    assert [row[:2] for row in rows] == [row[:2] for row in expected]
    assert [row[2] for row in rows] == pytest.approx([row[2] for row in expected], abs=1e-3)


def test_ids_may_be_of_any_type(shared: psycopg.Connection, item: int, expected: Rows) -> None:
    shared.execute(f"set recdb.user_id = '{USER}'")
    for call in (
        f"explain({USER}, {item}, scenario => 'feed')", f"explain({USER}::bigint, '{item}', null, 'feed')",
        f"explain('{USER}', {item}, scenario => 'feed')", f"explain('{USER}', '{item}', scenario => 'feed')",
        f"explain_me('{item}', scenario => 'feed')", f"explain_me({item}, null, 'feed')",
    ):  # fmt: skip
        assert explain(shared, call) == expected, call


def test_both_clients_take_a_scenario(module_database: Database, item: int, expected: Rows) -> None:
    async def ask() -> Rows:
        async with AsyncRecommender(module_database.conninfo) as client:
            rows = await client.explain(USER, item, scenario="feed")
        return [(row.source, row.because_id, row.contribution) for row in rows]

    assert_like(asyncio.run(ask()), expected)
    with Recommender(module_database.conninfo) as client:
        rows = client.explain(USER, item, None, "feed")
        assert_like([(row.source, row.because_id, row.contribution) for row in rows], expected)
        with pytest.raises(InvalidInput, match='no scenario is named "nowhere"'):
            client.explain(USER, item, scenario="nowhere")


def test_the_service_leaves_the_place_of_a_pin_out_of_the_score(
    module_database: Database, item: int, expected: Rows
) -> None:
    asked = {"user_id": str(USER), "post_id": str(item), "scenario": "feed"}
    with serving(module_database) as http:
        answer = http.post(EXPLAIN, json=asked).json()
        assert_error(http.post(EXPLAIN, json={**asked, "scenario": "nowhere"}), 422, "invalid_request")
    rows = [(part["source"], part["because_post_id"], part["contribution"]) for part in answer["reasons"]]
    assert_like(rows, expected)
    assert answer["count"] == len(rows)
    assert answer["score"] == pytest.approx(sum(row[2] for row in rows if row[0] != "pinned"))
    assert 0 < answer["score"] <= 1
