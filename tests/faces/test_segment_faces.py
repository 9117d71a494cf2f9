"""The argument segment of both clients, of the HTTP service and of the command line."""

import asyncio
import json
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb
from support.data import recommend, record, tastes, train
from support.http import GENERATE, assert_error
from support.serving import serving
from typer.testing import CliRunner

from recdb import AsyncRecommender, InvalidInput, Recommender
from recdb.cli import app
from recdb.database import Database

FINLAND = {"country": "fi"}


@pytest.fixture(scope="module", autouse=True)
def trained(module_database: Database) -> None:
    """Every third user lives in Finland, and likes the items with numbers that three divides."""
    with psycopg.connect(module_database.conninfo, autocommit=True) as connection:
        record(connection, tastes())
        connection.cursor().executemany(
            "insert into recdb.user_attributes values (%s, %s)",
            [(f"u{n}", Jsonb({"country": ("fi", "de", "us")[n % 3]})) for n in range(40)],
        )
    train(module_database)


@pytest.fixture
def expected(shared: psycopg.Connection) -> list[Any]:
    rows = recommend(shared, "newcomer", 5, fallback="popular", segment=Jsonb(FINLAND))
    assert rows != recommend(shared, "newcomer", 5, fallback="popular")
    return rows


def test_both_clients(module_database: Database, expected: list[Any]) -> None:
    named: dict[str, Any] = {"k": 5, "fallback": "popular", "segment": FINLAND}

    async def ask() -> list[Any]:
        async with AsyncRecommender(module_database.conninfo) as client:
            return [
                await client.recommend("newcomer", **named),
                await client.recommend_for_items([], **named),
                await client.recommend_batch(["newcomer"], **named),
            ]

    with Recommender(module_database.conninfo) as client:
        found = [
            client.recommend("newcomer", **named),
            client.recommend_for_items([], **named),
            client.recommend_batch(["newcomer"], **named),
        ]
        assert asyncio.run(ask()) == found
        for rows in found:
            assert [(row.item_id, row.score, row.reason) for row in rows] == [row[:3] for row in expected]
        wrong: Any = ["fi"]
        with pytest.raises(InvalidInput, match="segment is of type list"):
            client.recommend("newcomer", segment=wrong)


def test_the_service(module_database: Database, expected: list[Any]) -> None:
    with serving(module_database) as http:
        for path, body in ((GENERATE, {"user_id": "newcomer"}), ("/recommendations/guest", {"post_ids": []})):
            asked = {**body, "limit": 5, "fallback": "popular", "segment": FINLAND}
            posts = http.post(path, json=asked).json()["recommendations"]
            assert [(post["post_id"], post["score"], post["reason"]) for post in posts] == [row[:3] for row in expected]
            assert http.post(path, json={**asked, "fallback": "none"}).json()["count"] == 0
            assert_error(http.post(path, json={**asked, "segment": ["fi"]}), 422, "invalid_request")
            assert_error(http.post(path, json={**asked, "segment": "fi"}), 422, "invalid_request")


def test_the_command(module_database: Database, expected: list[Any]) -> None:
    command = ["recommend", "newcomer", "-k", "5", "--fallback", "popular", "--url", module_database.conninfo, "--json"]
    done = CliRunner().invoke(app, [*command, "--segment", json.dumps(FINLAND)])
    assert [row["item_id"] for row in json.loads(done.stdout)] == [row[0] for row in expected]
    for wrong, problem in (("{country: fi}", "--segment is not JSON"), ('["fi"]', "segment is of type list")):
        refused = CliRunner().invoke(app, [*command, "--segment", wrong])
        assert isinstance(refused.exception, InvalidInput) and problem in str(refused.exception)
