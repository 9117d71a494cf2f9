"""recdb evaluate: a scratch database is trained, recommend() is asked, and the lists are scored."""

import csv
import json
from pathlib import Path

import psycopg
import pytest
from data import tastes
from typer.testing import CliRunner, Result

from recdb.cli import app
from recdb.database import Database
from recdb.errors import InvalidInput


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """A training and a test file: each user's last row is to be found; one test user is unknown."""
    rows = tastes(users=60, items=40, per_user=10, groups=2)
    train, test = tmp_path / "train.csv", tmp_path / "test.csv"
    held = rows[9::10]
    with train.open("w", newline="") as file:
        csv.writer(file).writerows([("user_id", "item_id", "kind"), *(row for row in rows if row not in held)])
    with test.open("w", newline="") as file:
        csv.writer(file).writerows([("user_id", "item_id"), *(row[:2] for row in held), ("stranger", "i1")])
    return str(train), str(test)


def evaluate(server: Database, files: tuple[str, str], *options: str) -> Result:
    arguments = ["evaluate", "--train", files[0], "--test", files[1], "--url", server.conninfo, *options]
    return CliRunner().invoke(app, arguments)


def scratch_databases(db: psycopg.Connection) -> int:
    row = db.execute("select count(*) from pg_database where datname like 'recdb\\_scratch\\_%'").fetchone()
    assert row is not None
    return int(row[0])


def test_json_has_the_metrics_the_parameters_and_the_latency(database: Database, files: tuple[str, str]) -> None:
    answer = evaluate(database, files, "--k", "5", "--k", "20", "--json", "--model-params", '{"neighbors": 7}')

    found = json.loads(answer.stdout)
    assert found["users"] == 60
    assert found["unknown_users"] == 1
    assert found["params"]["neighbors"] == 7
    assert set(found["latency_ms"]) == {"p50", "p95", "p99"}
    assert found["train_seconds"] > 0
    assert 0 < found["recall@5"] < found["recall@20"] <= 1
    low, high = found["intervals"]["ndcg@20"]
    assert low < found["ndcg@20"] < high


def test_ours_beats_popularity_where_people_have_tastes(database: Database, files: tuple[str, str]) -> None:
    found = json.loads(evaluate(database, files, "--json").stdout)

    assert found["ndcg@20"] > found["baselines"]["popularity"]["ndcg@20"]


def test_the_database_that_was_named_is_not_touched(
    database: Database, db: psycopg.Connection, files: tuple[str, str]
) -> None:
    evaluate(database, files)

    assert db.execute("select count(*) from recdb.interaction").fetchone() == (0,)
    assert db.execute("select count(*) from recdb.model").fetchone() == (0,)


def test_the_scratch_database_is_gone_after_success_and_after_failure(
    database: Database, db: psycopg.Connection, files: tuple[str, str], tmp_path: Path
) -> None:
    before = scratch_databases(db)
    bad = tmp_path / "bad.csv"
    bad.write_text("user_id,item_id,kind\nu,,view\n")

    assert evaluate(database, files).exit_code == 0
    assert evaluate(database, (str(bad), files[1])).exit_code != 0
    assert scratch_databases(db) == before


def test_kinds_that_do_not_hide_may_come_back(database: Database, files: tuple[str, str]) -> None:
    """Scored on its own training pairs, only a ranking that returns to them can hit."""
    again = (files[0], files[0])
    hidden = json.loads(evaluate(database, again, "--json").stdout)
    shown = json.loads(evaluate(database, again, "--json", "--hides", "purchase").stdout)

    assert hidden["hit_rate@20"] == 0
    assert shown["hit_rate@20"] > 0.9


def test_tuning_is_part_of_the_answer(database: Database, files: tuple[str, str]) -> None:
    found = json.loads(evaluate(database, files, "--json", "--tune", "--budget", "1s").stdout)

    assert found["tuning"]["curve"]
    assert found["params"]["self_weight"] == 0


def test_the_table_names_the_formulas(database: Database, files: tuple[str, str]) -> None:
    answer = evaluate(database, files, "--weights", "view=.5,like=2").stdout

    assert "hits / relevant items" in answer
    assert "item-kNN" in answer
    assert "means over 60 users; 1 test users are not in the training data" in answer


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model-params", "{"], "not JSON"),
        (["--model-params", "[]"], "not a JSON object"),
        (["--model-params", '{"neighbours": 3}'], "unknown model parameters: neighbours"),
        (["--model-params", '{"neighbors": 0}'], "between 1 and 999"),
        (["--model-params", '{"neighbors": 1.5}'], "whole number"),
        (["--model-params", '{"learner": "magic"}'], "'cooccurrence' or 'ease'"),
        (["--weights", "view"], "no weights"),
        (["--budget", "soon", "--tune"], "duration"),
    ],
)
def test_bad_options_are_one_clear_error(
    database: Database, files: tuple[str, str], options: list[str], message: str
) -> None:
    answer = evaluate(database, files, *options)

    assert isinstance(answer.exception, InvalidInput)
    assert message in str(answer.exception)


def test_a_test_file_of_strangers_is_one_clear_error(
    database: Database, files: tuple[str, str], tmp_path: Path
) -> None:
    strangers = tmp_path / "strangers.csv"
    strangers.write_text("user_id,item_id\nnobody,i1\n")

    answer = evaluate(database, (files[0], str(strangers)))

    assert "no test user occurs" in str(answer.exception)
