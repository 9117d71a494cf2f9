"""The commands trending and audience."""

import json
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from support.data import record, tastes, train
from typer.testing import CliRunner, Result

from recdb.cli import app
from recdb.database import Database
from recdb.errors import InvalidInput

Run = Callable[..., Result]


@pytest.fixture(scope="module", autouse=True)
def trained(module_database: Database) -> None:
    with psycopg.connect(module_database.conninfo, autocommit=True) as connection:
        record(connection, tastes())
        connection.execute("insert into recdb.item (item_id, title, attributes) values ('i7', 'Seven', '{\"odd\": 1}')")
    train(module_database)


@pytest.fixture
def run(module_database: Database) -> Run:
    def command(*arguments: str) -> Result:
        return CliRunner().invoke(app, [*arguments, "--url", module_database.conninfo])

    return command


def rows_of(connection: psycopg.Connection, call: str) -> list[Any]:
    return connection.execute(f"select * from {call}").fetchall()


def test_trending_shows_the_rows_of_trending(run: Run, shared: psycopg.Connection) -> None:
    expected = [row[0] for row in rows_of(shared, "recdb.trending(60, '5 days')")]
    assert len(expected) > 10

    lines = run("trending", "-k", "60", "--window", "5d").output.splitlines()
    (seven,) = json.loads(run("trending", "--filter", '{"odd": 1}', "--json").output.partition("\n")[2])

    assert [line.split()[1] for line in lines[2:]] == expected
    assert any("Seven" in line for line in lines)
    assert (seven["item_id"], seven["title"]) == ("i7", "Seven")
    assert seven["rise"] > 1 and seven["users"] > 0 and 0 < seven["score"] <= 1
    assert "longer --window" in run("trending", "--filter", '{"odd": 2}').output
    assert run("trending", "--filter", "$.odd == 1", "--json").output == run(
        "trending", "--filter", '{"odd": 1}', "--json").output  # fmt: skip


@pytest.mark.parametrize("wrong", ["[1]", "{odd}", "$.odd >"])
def test_a_filter_that_is_neither_an_object_nor_a_path_is_refused(run: Run, wrong: str) -> None:
    with pytest.raises(InvalidInput, match=r"filter is not (JSON|a JSON path)"):
        raise run("trending", "--filter", wrong).exception or AssertionError


def test_audience_shows_the_rows_of_audience(run: Run, shared: psycopg.Connection) -> None:
    expected = [row[0] for row in rows_of(shared, "recdb.audience('i3', 4)")]
    assert len(expected) == 4

    lines = run("audience", "i3", "-k", "4").output.splitlines()
    found = json.loads(run("audience", "i3", "-k", "4", "--json").output.partition("\n")[2])

    assert [line.split()[1] for line in lines[2:]] == expected == [row["user_id"] for row in found]
    assert "nobody for nothing" in run("audience", "nothing").output
