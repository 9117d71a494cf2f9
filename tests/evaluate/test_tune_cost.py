"""--cost bounds the price of the setting that tune and evaluate --tune choose, in calls with the defaults."""

import json

import psycopg
import pytest
from support.data import record, tastes
from typer.testing import CliRunner

from recdb.cli import app
from recdb.database import Database
from recdb.errors import RecdbError
from recdb.tuning.latency_model import LatencyModel, Prices


@pytest.mark.parametrize(("options", "limit"), [([], 2.0), (["--cost", "1.5x"], 1.5), (["--cost", "any"], None)])
def test_tune_keeps_to_a_cost_and_says_the_price(
    database: Database, db: psycopg.Connection, options: list[str], limit: float | None
) -> None:
    record(db, tastes(users=60, items=50, per_user=12))

    answer = CliRunner().invoke(app, ["tune", "--url", database.conninfo, "--budget", "1s", "--json", *options])

    found = json.loads(answer.stdout)
    assert found["cost_limit"] == limit
    assert 0 < found["cost"] <= (limit or float("inf"))
    assert " ms  " in answer.stderr and "x\n" in answer.stderr


@pytest.mark.parametrize("cost", ["cheap", "0", "-1", "inf"])
def test_a_wrong_cost_is_one_error_with_a_hint(database: Database, cost: str) -> None:
    answer = CliRunner().invoke(app, ["tune", "--url", database.conninfo, "--cost", cost])

    assert isinstance(answer.exception, RecdbError)
    assert f"'{cost}' is not a cost" in str(answer.exception)
    assert "or any" in str(answer.exception.hint)


def test_a_cost_that_no_call_can_have_changes_nothing(database: Database, db: psycopg.Connection) -> None:
    record(db, tastes(users=60, items=50, per_user=12))

    answer = CliRunner().invoke(app, ["tune", "--url", database.conninfo, "--budget", "1s", "--cost", "0.01"])

    assert "no setting costs at most 0.01 times a default call" in str(answer.exception)
    assert db.execute("select count(*) from recdb.model").fetchone() == (0,)


def test_a_cost_is_a_multiple_of_the_time_of_a_default_call() -> None:
    prices = Prices(LatencyModel(scale=3.0), default_rows=4000)

    assert prices.cost(4000) == pytest.approx(1.0)
    assert prices.cost(prices.most_rows(2.0)) == pytest.approx(2.0)
    assert prices.milliseconds(prices.most_rows(2.0)) == pytest.approx(2 * prices.milliseconds(4000))
